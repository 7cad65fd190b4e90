"""The data and models of Table 1 and Fig. 5, UAI 2020.

Settings that the paper leaves open are those of its authors' code: 50 points of sin(7 exp(x)) with
noise of 0.01, whose variance the model knows; two layers, a squared exponential one with the
identity as mean and a periodic one; ten inducing points in each.
"""

import json
import time
from pathlib import Path

import numpy as np

from fastvis.gp import DeepGP, Gaussian, GPLayer, Periodic, SquaredExponential

POSTERIORS = ("factorized", "chain", "joint", "locations")
NOISE = 1e-2
N_INDUCING = 10
ADAM = dict(natural_rate=None, learning_rate=1e-3, n_steps=30_000)  # as the authors
TRAINING = {
    "natural": dict(natural_rate=0.1, learning_rate=5e-3, n_steps=10_000),
    "adam": ADAM,
    "sampled": dict(ADAM, marginalize="sampled"),  # one draw for all points, as the authors
}
SCALE = {"natural": (0.1, 0.01), "adam": (0.1, 0.001), "sampled": (0.01, 0.001)}  # of "locations"
PAPER = {  # ELBO, Var f1(0), Var f2(0)
    "factorized": (13.43, 1.99e-6, 1.11e-4),
    "joint": (23.15, 4.23e-5, 3.33e-4),
    "locations": (36.31, 2.22e-3, 4.98e-2),
}


def data():
    """Inputs and outputs, (50,)."""
    x = np.linspace(-1, 1, 50)
    return x, np.sin(7 * np.exp(x)) + NOISE * np.random.RandomState(1).randn(50)


def model(posterior, seed, training="natural", frozen=(), n_steps=None):
    """A model before its `TRAINING`; ``frozen`` as in `DeepGP`."""
    options = {**TRAINING[training], "scale": SCALE[training][posterior == "locations"]}
    if n_steps is not None:
        options["n_steps"] = n_steps
    z = np.linspace(-1, 1, N_INDUCING)
    layers = [
        GPLayer(SquaredExponential(), N_INDUCING, mean="identity", inducing=z),
        GPLayer(Periodic(period=np.pi), N_INDUCING, inducing=z),
    ]
    return DeepGP(
        layers, Gaussian(NOISE**2), posterior, frozen=("likelihood", *frozen), rng=seed, **options
    )


def result(posterior, seed, training="natural", frozen=(), n_steps=None, folder=None):
    """Train, or read what was trained: a dict of ELBO and variances, and the model."""
    shorter = () if n_steps is None else (str(n_steps),)
    name = "-".join([posterior, training, *frozen, *shorter, f"seed-{seed}"])
    path = None if folder is None else Path(folder, name + ".json")
    if path is not None and path.is_file():
        return json.loads(path.read_text())
    x, y = data()
    start = time.process_time()
    fitted = model(posterior, seed, training, frozen, n_steps).fit(x, y)
    seconds = time.process_time() - start
    elbo = fitted.elbo(x, y, 2000, rng=0)
    one, two = (float(v[0, 0]) for v in fitted.layer_variance(np.zeros(1), rng=0))
    coupling = fitted.coupling(x, y, 500, rng=0)
    out = dict(
        elbo=elbo.value, error=elbo.standard_error, divergence=elbo.divergence, f1=one, f2=two,
        total_correlation=coupling.total_correlation, shuffle=coupling.shuffle, seconds=seconds,
        kernels=[repr(layer.kernel) for layer in fitted.layers_],
    )  # fmt: skip
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(out, default=float))
    return out
