"""
Fig. 4: the precision of a chain is block-tridiagonal
=====================================================

A Gaussian over the inducing values of five layers, of which each depends on the one before, (14):
its precision, and its covariance ('Compositional uncertainty in deep Gaussian processes', UAI 2020,
Fig. 4). The chain is random; what it is of matters to no zero in it.

What must be seen: blocks of the precision are zero but on the diagonal and beside it, exactly; the
covariance is dense, as all layers are correlated through those between them.

Measured: 12 of 25 blocks of the precision are exactly zero, and it is the inverse, to 3e-15, of the
covariance that follows from the recursion of the chain; the weakest block of the covariance has a
value of 0.67, the strongest one of 1.6. A chain has 436 parameters besides its means, a dense
Gaussian 820; with 20 layers, 1,936 and 12,880.
"""

# %%
# Each layer is a turned and shrunken copy of the one before, and noise.

import matplotlib.pyplot as plt
import numpy as np
from gp_figures import arguments, finish, letter, table

from fastvis.gp import ChainGaussian

args = arguments()
n_layers, m = 5, 8
rng = np.random.default_rng(2)
gain = np.stack([np.linalg.qr(rng.standard_normal((m, m)))[0] for _ in range(n_layers - 1)])
factor = np.tril(0.1 * rng.standard_normal((n_layers, m, m)), -1) + 0.45 * np.eye(m)
factor[0] *= 2
chain = ChainGaussian(np.zeros((n_layers, m)), 0.9 * gain, factor)
precision = chain.precision().todense()

# %%
# The covariance from the recursion v_l = H_l v_{l-1} + T_l e_l: v is linear in all e.

of_noise = np.zeros((n_layers, m, n_layers * m))
for l in range(n_layers):
    of_noise[l, :, l * m : (l + 1) * m] = factor[l]
    if l > 0:
        of_noise[l] += chain.gain[l - 1] @ of_noise[l - 1]
of_noise = of_noise.reshape(n_layers * m, -1)
covariance = of_noise @ of_noise.T


def sizes(matrix):
    """The largest absolute value in each block."""
    return np.abs(matrix).reshape(n_layers, m, n_layers, m).max(axis=(1, 3))


rows = []
for name, matrix in (("precision", precision), ("covariance", covariance)):
    blocks = sizes(matrix)
    rows.append([name, int((blocks == 0).sum()), float(blocks.min()), float(blocks.max())])
table(["blocks of the", "zero", "smallest", "largest"], rows)
error = np.abs(np.linalg.inv(covariance) - precision).max() / np.abs(precision).max()
print(f"the precision is the inverse of the covariance, to {error:.1g} of the largest value")


def n_parameters(n_layers, m):
    dense = n_layers * m * (n_layers * m + 1) // 2
    return n_layers * m * (m + 1) // 2 + (n_layers - 1) * m * m, dense


for count in (n_layers, 20):
    ours, dense = n_parameters(count, m)
    print(f"{count} layers of {m}: {ours:,} parameters besides the means, of a dense one {dense:,}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(8.6, 4), layout="constrained")
for ax, matrix, title, text in zip(
    axes, (precision, covariance), ("precision $\\Lambda$", "covariance $S$"), "AB"
):
    largest = np.abs(matrix).max()
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
    for edge in np.arange(1, n_layers) * m - 0.5:
        ax.axhline(edge, color="0.4", linewidth=0.6)
        ax.axvline(edge, color="0.4", linewidth=0.6)
    middles = np.arange(n_layers) * m + (m - 1) / 2
    names = [f"$u_{l + 1}$" for l in range(n_layers)]
    ax.set_xticks(middles, names)
    ax.set_yticks(middles, names)
    ax.tick_params(length=0)
    ax.set_title(title, fontsize=10)
    figure.colorbar(image, ax=ax, shrink=0.85)
    letter(ax, text)
finish(figure, "fig4_precision", args)
