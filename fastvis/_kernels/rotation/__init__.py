"""Rotation of readouts, and the distances of all pairs of them.

::

    reference.py    the definitions
    weights.py      rotations as weights of cyclic shifts, with derivatives
    all_pairs.py    mean_distance, over
        _distances.pyx      the loop over blocks of rows, in C (distances.h)
"""

from .all_pairs import mean_distance

__all__ = ["mean_distance"]
