"""The ``rng`` argument of every public function (SPEC 7), and per-item streams."""

import numbers

import numpy as np


def check_rng(rng):
    """Return a `numpy.random.Generator` for None, a non-negative int or a Generator.

    >>> check_rng(3).integers(10) == check_rng(3).integers(10)
    np.True_
    >>> check_rng("3")
    Traceback (most recent call last):
    TypeError: rng must be None, an int or a numpy.random.Generator; got str. ...
    """
    if rng is None or isinstance(rng, np.random.Generator):
        return np.random.default_rng(rng)
    if isinstance(rng, numbers.Integral) and not isinstance(rng, bool):
        if rng < 0:
            raise ValueError(f"rng must not be negative; got {rng}. Pass any int >= 0.")
        return np.random.default_rng(int(rng))
    raise TypeError(
        f"rng must be None, an int or a numpy.random.Generator; got {type(rng).__name__}. "
        "Pass numpy.random.default_rng(seed)."
    )


def item_seeds(rng, n):
    """Draw one uint64 seed per item, ``(n,)``: item i is the same for any batch or thread count."""
    return check_rng(rng).integers(0, 2**64, size=n, dtype=np.uint64)
