"""
Fig. 4: sixteen neurons of two types
====================================

A: a synthetic population, aligned with the paper's objective (5) at several weights beta of the
reconstruction, and exactly. B: distances within each type before and after, at two levels of noise
(Ustyuzhaninov et al., ICLR 2020, Fig. 4).

What must be seen: A, with an adequate beta rows of a type become the same, and readouts turned by 0
are the readouts; a small beta gives a small temperature T and smooths both. B, with little noise,
distances fall to what noise alone leaves (dashed), with much noise below it: noise was aligned.
All of that is seen.

Measured: A, T is 0.3 at a beta of 0.03, and 63 % of the readouts is lost by turning them by 0; 1.4
and 39 % at 0.1; 38 and nothing at 1. With T = 38 angles are off by 8.2 degrees, because the relaxed
rotation is blurred, and distances shorter, halfway between two orientations; by 0.1 with exact
rotation. B, distances relative to what noise leaves after the same rotation and a fitted angle:
1.12 and 0.96 (exact rotation) at a noise of 0.2; 1.03 and 0.78 at 1.4, where the second type is
over-fitted. Eight neurons say little, though: with other seeds a ratio of 0.8 is called
over-fitted or not; Fig. B1 has a hundred.
"""

# %%
# Each neuron has the function of its type, drawn from a Gaussian process, turned by any angle and
# evaluated at eight orientations. The same seed with more orientations gives the functions.

import matplotlib.pyplot as plt
import numpy as np
from readout_figures import angle_errors, arguments, finish, table
from scipy.spatial.distance import pdist
from scipy.special import gammaln

from fastvis.readouts import RotationAligner, make_rotated_readouts, von_mises_rotation

args = arguments()
betas = (0.03, 0.1, 0.2, 1)
seed = 4

data = make_rotated_readouts(16, 2, rng=seed)
order = np.argsort(data.labels, kind="stable")
readouts, labels, angles = data.readouts[order], data.labels[order], data.angles[order]
n_first = np.count_nonzero(labels == 0)
functions = make_rotated_readouts(16, 2, n_orientations=256, rng=seed).clean[order, 0]

# %%
# A. Aligned readouts, and readouts turned by 0: a small beta allows a small temperature, which
# smooths both.

fits = {f"β = {b:g}": RotationAligner(beta=b, rotation="von_mises", rng=0) for b in betas}
fits["β path"] = RotationAligner(beta="path", rotation="von_mises", rng=0)
fits["exact"] = RotationAligner(rng=0)
rows = []
for label, aligner in fits.items():
    aligner.fit(readouts)
    exact = label == "exact"
    still = readouts if exact else von_mises_rotation(readouts, 0, aligner.temperature_)
    lost = np.linalg.norm(still - readouts) / np.linalg.norm(readouts)
    error = angle_errors(aligner.angles_, angles, labels)
    temperature = "-" if exact else f"{aligner.temperature_:.2g}"
    loss = aligner.alignment_losses_
    rows.append([label, temperature, float(lost), float(error.mean()), loss["cyclic"]])
    rows[-1].append(loss["von_mises"] if not exact else "-")
table(["A: fit", "T", "lost at 0", "angle error", "loss (3), hard", "relaxed"], rows)

# %%
# B. Noise alone leaves two neurons at a distance of 2 sigma Gamma((D + 1) / 2) / Gamma(D / 2), but
# turning mixes numbers and so averages the noise: what is to be expected after alignment is less.

levels = (0.2, 1.4)
D = readouts[0].size
per_sigma = 2 * np.exp(gammaln((D + 1) / 2) - gammaln(D / 2))


def within(x):
    """Mean distance within each type."""
    return [float(pdist(x[labels == k].reshape(-1, D)).mean()) for k in (0, 1)]


panels, rows = [], []
for noise in levels:
    noisy = make_rotated_readouts(16, 2, noise=noise, rng=seed).readouts[order]
    relaxed = RotationAligner(beta="path", rotation="von_mises", rng=0).fit(noisy)
    exact = RotationAligner(rng=0).fit(noisy)
    checks = [fit.noise_check(noise, labels) for fit in (relaxed, exact)]
    panels.append((noise, noisy, relaxed.aligned_, exact.aligned_, checks))
    for name, fit, check in zip(("relaxed", "exact"), (relaxed, exact), checks):
        print(f"noise {noise:g}, {name}: T = {fit.temperature_:.2g}, {check}")
        for k in (0, 1):
            row = [f"noise {noise:g}, type {k + 1}, {name}", within(noisy)[k], noise * per_sigma]
            ratio = float(check.distance[k] / check.expected[k])
            row += [float(check.distance[k]), float(check.expected[k]), ratio]
            rows.append([*row, "yes" if check.overfitted[k] else "no"])
print()
table(["B: mean distance", "raw", "noise", "aligned", "noise, turned", "ratio", "over-fit"], rows)

# %%
# Columns: the data, the functions of the two types with one color a neuron, then pairs of aligned
# readouts (above) and readouts turned by 0 (below).

figure = plt.figure(figsize=(11, 8.6), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1])


def show(ax, x, title="", like=readouts):
    extreme = np.abs(like).max()
    ax.imshow(x[:, 0], cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto")
    ax.axhline(n_first - 0.5, color="black", linewidth=1)
    ax.set(xticks=[], yticks=[])
    ax.set_title(title, fontsize=8)


axes = top.subplots(2, 2 + len(fits), width_ratios=[1.2, 1.5] + [1] * len(fits))
shown = np.concatenate([np.arange(4), n_first + np.arange(4)])
colors = plt.get_cmap("tab10")(np.arange(8))
show(axes[0, 0], readouts, "R")
axes[0, 0].set_ylabel("neurons of two types", fontsize=8)
for row, color in zip(shown, colors):
    box = plt.Rectangle((-0.45, row - 0.45), 7.9, 0.9, fill=False, edgecolor=color, linewidth=1.5)
    axes[0, 0].add_patch(box)
    axes[int(row >= n_first), 1].plot(np.linspace(0, 360, 256), functions[row], color=color)
for k in (0, 1):
    axes[k, 1].set_title(f"functions of type {k + 1}", fontsize=8)
    axes[k, 1].set_xticks([0, 180, 360], ["0", "180", "360"], fontsize=7)
    axes[k, 1].tick_params("y", labelsize=7)
axes[1, 0].axis("off")
for (label, aligner), column in zip(fits.items(), axes.T[2:]):
    exact = label == "exact"
    still = readouts if exact else von_mises_rotation(readouts, 0, aligner.temperature_)
    title = f"{label}\n" + ("Fourier" if exact else f"T = {aligner.temperature_:.2g}")
    show(column[0], aligner.aligned_, title)
    show(column[1], still)
axes[0, 2].set_ylabel("aligned", fontsize=8)
axes[1, 2].set_ylabel("turned by 0", fontsize=8)
top.suptitle("A", x=0.01, fontsize=12, fontweight="bold")

for half, (noise, noisy, relaxed, exact, checks) in zip(bottom.subfigures(1, 2), panels):
    grid = half.add_gridspec(2, 3, height_ratios=[1.2, 1])
    ax = half.add_subplot(grid[0, :])
    bars = [within(noisy), checks[0].distance, checks[1].distance]
    expected = [[noise * per_sigma] * 2, checks[0].expected, checks[1].expected]
    names = ("raw", "aligned, (5)", "aligned, exact")
    for i, (height, line) in enumerate(zip(bars, expected)):
        x = np.arange(2) + 0.27 * (i - 1)
        ax.bar(x, height, 0.25, color=("0.6", "C0", "C1")[i], label=names[i])
        dashed = ax.hlines(line, x - 0.13, x + 0.13, color="black", linestyle=(0, (2, 1)))
    dashed.set_label("noise alone")
    ax.set_xticks([0, 1], ["type 1", "type 2"], fontsize=8)
    ax.set_ylabel("mean distance", fontsize=8)
    ax.set_title(f"noise {noise:g}", fontsize=9)
    ax.set_ylim(0, 1.3 * max(bars[0]))
    ax.legend(fontsize=7, ncols=4, loc="upper center")
    for i, (x, name) in enumerate(zip((noisy, relaxed, exact), names)):
        show(half.add_subplot(grid[1, i]), x, name, noisy)
bottom.suptitle("B", x=0.01, fontsize=12, fontweight="bold")
finish(figure, "fig4_alignment", args)
