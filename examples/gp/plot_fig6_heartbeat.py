"""
Fig. 6: a heartbeat, warped
===========================

Draws of a warp of time g, of a latent function f, and of f(g(x)), the model (24) of 'Compositional
uncertainty in deep Gaussian processes', UAI 2020, fitted to two heartbeats with a posterior that
is factorized over layers, and with one in which they are correlated. The paper has a recording of
heart SOUND; here an electrocardiogram, `pywt.data.ecg`, stands in for it. ``--recording FILE``
reads another one.

What must be seen: warps of the factorized posterior lie on each other, but for the ends; those of
the correlated one vary, f varies with them, of the same color, and compositions fit as well. So it
is, though by little: warps of the correlated posterior have a standard deviation of 0.007 of the
range. Both fit but roughly the wave after the first beat, at 0.35.

Measured on 2 vCPU, Python 3.11, with seed 0: the variance of g, in all the data's range and between
0.1 and 0.9; by how many nats the likelihood falls when layers are of different draws (shuffle); by
how much f(g(x)) misses the data (RMS), with f and g of one draw, and of two. The fits take 60 s.
Settings were chosen on this recording, and ELBOs of one seed, 7 nats apart, do not rank posteriors.

==========  =====  ======  ==========  =======  =====  ======
posterior   ELBO   Var g   [0.1, 0.9]  shuffle  miss   of two
==========  =====  ======  ==========  =======  =====  ======
factorized  -66.2  1.8e-5  5.5e-6      0.25     0.183  0.183
correlated  -59.2  4.4e-5  4.6e-5      76       0.188  0.254
==========  =====  ======  ==========  =======  =====  ======
"""

# %%
# The recording, made smooth (by a Gaussian of 2 % of its length) and standardized.

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pywt
from gp_figures import finish, table
from scipy.ndimage import gaussian_filter1d

from fastvis.gp import DeepGP, Gaussian, GPLayer, MonotonicFlow, SquaredExponential

parser = argparse.ArgumentParser()
parser.add_argument("--full", action="store_true", help="train for 5,000 steps")
parser.add_argument(
    "--recording", type=Path, metavar="FILE", help="two or three beats, one column: text or .npy"
)
parser.add_argument(
    "--out", type=Path, metavar="DIR", help="write the picture there instead of showing it"
)
args = parser.parse_args()
if args.out is not None:
    args.out.mkdir(parents=True, exist_ok=True)


def read(path):
    """The recording in a file, (n,)."""
    try:
        if path.suffix == ".npy":
            values = np.load(path, allow_pickle=False)
        else:
            values = np.loadtxt(path)
        values = np.asarray(values, dtype=float)
    except (OSError, EOFError, ValueError, TypeError) as error:
        parser.error(f"--recording {path} cannot be read: {error}")
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or len(values) < 50:
        parser.error(
            f"--recording {path} must be one column of 50 numbers or more; got shape {values.shape}"
        )
    if not np.isfinite(values).all() or values.std() == 0:
        parser.error(f"--recording {path} must be of finite numbers that are not all the same")
    return values


recording = pywt.data.ecg()[60:720] if args.recording is None else read(args.recording)
recording = gaussian_filter1d(recording.astype(float), 0.02 * len(recording))
x = np.linspace(0, 1, min(165, len(recording)))
y = np.interp(x, np.linspace(0, 1, len(recording)), recording)
y = (y - y.mean()) / y.std()

# %%
# Both posteriors have the same prior, which is held fixed.

n_steps = 5000 if args.full else 1200
names = {"factorized": "factorized", "chain": "correlated layers (chain)"}
span = np.linspace(-0.3, 1.4, 200)
inside = (x > 0.1) & (x < 0.9)
draws, rows = {}, []
for posterior, name in names.items():
    start = time.process_time()
    layers = [
        MonotonicFlow(SquaredExponential(0.05, [0.25, 1.0]), (8, 3)),
        GPLayer(SquaredExponential(lengthscale=0.08), 24),
    ]
    deep = DeepGP(
        layers, Gaussian(0.03), posterior, frozen=("hyperparameters", "likelihood"),
        scale=[0.02, 0.1], natural_rate=0.1, n_steps=n_steps, n_samples=5, rng=0,
    ).fit(x, y)  # fmt: skip
    seconds = time.process_time() - start
    drawn = deep.sample_functions([x, span], 200, x=x, rng=1)
    warps, latents = (f[..., 0] for f in drawn.functions)
    outputs = drawn.values[1][..., 0]
    draws[posterior] = (warps - x, latents, outputs)
    variance = deep.layer_variance([x, x], rng=0)[0][:, 0]
    miss = float(np.sqrt(np.square(outputs - y).mean()))
    mixed = np.stack([np.interp(g, span, f) for g, f in zip(warps, np.roll(latents, 1, axis=0))])
    other = float(np.sqrt(np.square(mixed - y).mean()))
    rows.append([name, deep.elbo(x, y, 1000, rng=0).value])
    rows[-1] += [float(variance.mean()), float(variance[inside].mean())]
    rows[-1] += [float(deep.coupling(x, y, rng=0).shuffle), miss, other, f"{seconds:.0f} s"]
header = ["posterior", "ELBO", "Var g", "inside", "shuffle", "draws miss", "of others", "training"]
table(header, rows)

# %%
# Twelve draws; a draw has one color in its row. Dots: data.

figure, axes = plt.subplots(2, 3, figsize=(12, 6), layout="constrained", sharex="col", sharey="col")
colors = plt.colormaps["turbo"](np.linspace(0.05, 0.95, 12))
for (posterior, curves), row in zip(draws.items(), axes):
    for ax, at, lines in zip(row, (x, span, x), curves):
        for line, color in zip(lines, colors):
            ax.plot(at, line, color=color, linewidth=0.9, alpha=0.8)
    row[1].set_xlim(-0.15, 1.2)
    row[2].plot(x, y, ".", color="black", markersize=3, zorder=3)
    row[0].set_ylabel(names[posterior])
titles = "warp less the identity, $g(x) - x$", "latent function $f$", "composition $f(g(x))$"
for ax, title in zip(axes[0], titles):
    ax.set_title(title)
for ax, label in zip(axes[1], ("time x", "warped time", "time x")):
    ax.set_xlabel(label)
finish(figure, "fig6_heartbeat", args)
