"""In the simulator all threads of a block may find that a shared array is not there yet, and each
make its own; here whoever comes first makes it for all."""

import sys
import threading

import numba
import numpy as np
import pytest
from numba.core import types
from numba.np.numpy_support import as_dtype


@pytest.fixture(autouse=True)
def one_shared_array(monkeypatch):
    if not numba.config.ENABLE_CUDASIM:
        return
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    lock = threading.Lock()

    def array(self, shape, dtype, alignment=None):
        caller = sys._getframe(1)
        place = caller.f_code.co_filename, caller.f_lineno
        dtype = as_dtype(dtype) if isinstance(dtype, types.Type) else dtype
        with lock:
            if place not in self._allocations:
                self._allocations[place] = np.empty(shape, dtype)
            return self._allocations[place]

    monkeypatch.setattr(FakeCUDAShared, "array", array)
