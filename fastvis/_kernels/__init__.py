"""The hot loops and nothing else.

::

    jit.py      the only @njit and @cuda.jit decorators of the package
    threads.py  how many threads; run_ranges, which runs every kernel; the BLAS limiter
    memory.py   working memory, aligned and kept
    *.h         vector types and small dense products, for loops in C

    <family>/
        reference.py   the definition, in plain NumPy, as short as the formula
        cpu.py, _*.pyx  Numba; Cython where the work is BLAS-shaped; both fill what they are handed
        __init__.py    what the systems call: allocates, cuts the work, picks the implementation

Nothing here imports the rest of fastvis, validates, or draws random numbers.
"""
