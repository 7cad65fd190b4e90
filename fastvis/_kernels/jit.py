"""The only Numba decorators of the package.

Rules that they stand for (each was seen to go wrong in public code bases):

* no explicit signatures: they compile at import;
* serial and ``nogil``: `threads.run_ranges` does the threading, and survives a fork;
* one Python function is decorated once: Numba's cache does not tell options apart;
* a cache directory that cannot be written means no cache, not an ImportError.
"""

import numba


def njit(function):
    """Compile a serial kernel over a range [start, stop); it releases the GIL, and is cached."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # "cannot cache function": read-only install without a home directory
        return numba.njit(nogil=True)(function)


def cuda_jit(function):
    """Compile a CUDA kernel (or, with NUMBA_ENABLE_CUDASIM=1, simulate it)."""
    try:
        from numba import cuda
    except ImportError as error:
        raise ImportError(
            "CUDA kernels need the package numba-cuda. Install it with: pip install fastvis[cuda]"
        ) from error
    return cuda.jit(function)
