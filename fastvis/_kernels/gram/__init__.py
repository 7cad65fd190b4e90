"""Multi-scale filter bank, nonlinearity, Gram matrix: statistic, loss and image gradient.

::

    image -> correlate with every filter -> phi -> F (N maps, M pixels) -> G = F F' / M
                                                                            |
    image gradient <- adjoint of correlate <- phi' <- (dG + dG') F / M <- loss (5)

    reference.py    the definition
    strips.py       StripPlan: the algorithm on the CPU, over
        padding.py          the image's borders
        _row_fft.pyx        real FFTs along image rows, with the nonlinearity
        _correlation.pyx    filters of one size, frequency by frequency; adjoint
        _products.pyx       F F'; D F

The three are thin wrappers of loops in C (row_fft.h, correlation.h, products.h), compiled for each
number type and vector size by each_vector.h.

CUDA tensors take the same path in torch operations: ``fastvis/torch``.
"""

from .strips import StripPlan

__all__ = ["StripPlan"]
