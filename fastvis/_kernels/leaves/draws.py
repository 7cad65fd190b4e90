"""Random numbers of an image's own: the same whatever the batch, the piece or the thread."""

import numpy as np

from ..jit import njit


@njit
def uniforms(start, stop, seeds, first, out):
    """out[i, j] = number first + j of the stream of seeds[i], in [0, 1), for i in [start, stop).

    SplitMix64 (Steele, Lea, Flood, OOPSLA 2014), entered anywhere by its counter.
    """
    for i in range(start, stop):
        for j in range(out.shape[1]):
            z = seeds[i] + np.uint64(first + j + 1) * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            out[i, j] = np.float64(z >> np.uint64(11)) * 2.0**-53
