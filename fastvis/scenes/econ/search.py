"""Random configurations from the ranges in which the paper searched (C.4); imports nothing heavy.

Each is a dict of parameters. The loop over them is the user's, on as many machines as there are:

    fits = Parallel(n_jobs=8)(
        delayed(fit)(ECON(**configuration)) for configuration in random_configurations(512, rng=0)
    )
    best = min(fits, key=lambda model: np.nan_to_num(model.losses_[-1], nan=np.inf))
"""

import numpy as np

from ..._random import check_rng
from ..._validation import check_choice, check_int

_INTEGERS = {  # inclusive
    "by_class": dict(latent_dim=(2, 3), n_layers=(2, 4), n_features=(4, 32)),
    "random": dict(latent_dim=(4, 5), n_layers=(3, 4), n_features=(16, 32)),
}
_WEIGHTS = {
    "by_class": dict(beta=(0.5, 2.0), gamma=(0.1, 10.0)),
    "random": dict(beta=(1.0, 1.0), gamma=(0.5, 5.0)),
}
_COMPETITION = {"by_class": "reconstruction", "random": "region"}


def random_configurations(n, colors="by_class", rng=None):
    """Draw parameters of `ECON` at random from the ranges of the paper.

    Parameters
    ----------
    n : int
        512 in the paper.
    colors : {"by_class", "random"}
        Colors of the scenes, which have ranges of their own.
    rng : None, int or numpy.random.Generator

    Returns
    -------
    list of dict
        Keyword arguments of `ECON`: integers are uniform within their range, weights uniform in
        their logarithm.

    Raises
    ------
    TypeError, ValueError
        No configuration, unknown colors.

    References
    ----------
    von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, appendix C.4. How values are distributed
    within the ranges is not said there.

    Examples
    --------
    >>> from fastvis.scenes.econ import random_configurations
    >>> first, second = random_configurations(2, rng=0)
    >>> sorted(first)
    ['beta', 'competition', 'gamma', 'latent_dim', 'n_features', 'n_layers']
    >>> first["latent_dim"] in (2, 3), 0.1 <= first["gamma"] <= 10
    (True, True)
    """
    n = check_int(n, "n", minimum=1)
    check_choice(colors, "colors", tuple(_INTEGERS))
    rng = check_rng(rng)
    return [_configuration(colors, rng) for _ in range(n)]


def _configuration(colors, rng):
    integers = {
        name: int(rng.integers(low, high + 1)) for name, (low, high) in _INTEGERS[colors].items()
    }
    weights = {
        name: float(np.exp(rng.uniform(np.log(low), np.log(high))))
        for name, (low, high) in _WEIGHTS[colors].items()
    }
    return integers | weights | {"competition": _COMPETITION[colors]}
