"""Working memory: aligned to cache lines, and kept from call to call."""

import threading
from contextlib import contextmanager

import numpy as np

LINE = 64  # bytes of a cache line, and of the widest vectors


def aligned_empty(shape, dtype):
    """As `numpy.empty`, begun at a cache line."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n_bytes].view(dtype).reshape(shape)


class Pool:
    """Arrays for one user at a time each; fresh memory costs a tenth of a small model's time.

    Parameters
    ----------
    limit : int
        Bytes that may stay here while nobody uses them.
    """

    def __init__(self, limit):
        self._limit = limit
        self._idle = []  # of bytes, smallest first
        self._lock = threading.Lock()

    @property
    def idle_bytes(self):
        return sum(memory.nbytes for memory in self._idle)

    @contextmanager
    def empty(self, shape, dtype):
        """``with pool.empty(shape, dtype) as array:`` the array, of any values."""
        n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self._take(n_bytes)
        yield memory[:n_bytes].view(dtype).reshape(shape)
        with self._lock:
            if self.idle_bytes + memory.nbytes <= self._limit:
                self._idle.append(memory)
                self._idle.sort(key=len)

    def _take(self, n_bytes):
        """The smallest idle memory that is large enough; not one that is much larger."""
        with self._lock:
            for i, memory in enumerate(self._idle):
                if n_bytes <= memory.nbytes <= max(2 * n_bytes, 1 << 20):
                    return self._idle.pop(i)
        return aligned_empty(n_bytes, np.uint8)
