"""Working memory: aligned to cache lines, and kept from call to call."""

import math
from contextlib import contextmanager

import numpy as np

LINE = 64  # bytes of a cache line, and of the widest vectors


def aligned_empty(shape, dtype):
    """As `numpy.empty`, begun at a cache line."""
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


class Pool:
    """Arrays for one user at a time each; fresh memory costs a tenth of a small model's time.

    Parameters
    ----------
    limit : int
        Bytes that may stay here while nobody uses them.

    Notes
    -----
    There is no lock that a fork could leave locked in the child: single operations of a dictionary
    are atomic, and who loses a race allocates.
    """

    def __init__(self, limit):
        self._limit = limit
        self._idle = {}  # id: bytes

    @property
    def idle_bytes(self):
        return sum(memory.nbytes for memory in list(self._idle.values()))

    @contextmanager
    def empty(self, shape, dtype):
        """``with pool.empty(shape, dtype) as array:`` the array, of any values."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = self._take(n_bytes)
        yield memory[:n_bytes].view(dtype).reshape(shape)
        # after an error it is let go
        if self.idle_bytes + memory.nbytes <= self._limit:
            self._idle[id(memory)] = memory

    def _take(self, n_bytes):
        """The smallest idle memory that is large enough; not one that is much larger."""
        fitting = [
            (memory.nbytes, key)
            for key, memory in list(self._idle.items())
            if n_bytes <= memory.nbytes <= max(2 * n_bytes, 1 << 20)
        ]
        for _, key in sorted(fitting):
            memory = self._idle.pop(key, None)
            if memory is not None:
                return memory
        return aligned_empty((n_bytes,), np.uint8)
