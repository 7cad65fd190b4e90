"""Rotation of readouts, and the distances of all pairs of them.

::

    reference.py    the definitions
    weights.py      rotations as weights of cyclic shifts, with derivatives
    spectrum.py     the same as gains of Fourier bins: how they are applied
    all_pairs.py    mean_distance, over
        _distances.pyx      the loop over blocks of rows, in C (distances.h)
    cuda.py         mean_distance of tensors on a GPU
"""

from .all_pairs import mean_distance

__all__ = ["mean_distance"]
