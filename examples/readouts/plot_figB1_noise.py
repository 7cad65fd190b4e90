"""
Fig. B1: how much noise alignment stands
========================================

One hundred neurons of two types with more and more noise: sixteen of them raw and aligned, and a
t-SNE embedding of all, raw and aligned, colored by a Gaussian mixture with two components
(Ustyuzhaninov et al., ICLR 2020, appendix B, Fig. B1).

What must be seen: raw readouts of a type lie on a ring, along which the mixture cuts both types;
aligned ones are two clusters, which the mixture finds until there is so much noise that they
overlap. With more noise than that, aligned rows look alike because noise was aligned. So it is.

Measured, the functions having a variance of 1: ARI of raw readouts 0.08 at most; aligned, 1.00 up
to a noise of 0.2, 0.96 at 0.4, 0.51 at 0.8, 0.05 at 1.6. Angles are off by 0.8, 1.5, 3.1, 6.2, 17
and 38 degrees in the median. At 1.6 distances within types are 0.91 of what noise alone leaves, and
one type is called over-fitted; with less noise they are 1.0 to 1.1 of it.
"""

# %%
# The same types and angles, with more noise. ARI: adjusted Rand index of the mixture's two
# components and the two types, 1 if they are the same, about 0 by chance.

import matplotlib.pyplot as plt
import numpy as np
from readout_figures import angle_errors, arguments, finish, table
from sklearn.metrics import adjusted_rand_score

from fastvis.readouts import RotationAligner, cluster, embed, make_rotated_readouts

args = arguments()
levels = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
seed = 4

columns, rows = [], []
for noise in levels:
    data = make_rotated_readouts(100, 2, noise=noise, rng=seed)
    aligner = RotationAligner(rng=0).fit(data.readouts)
    check = aligner.noise_check(noise, data.labels)
    pair = []
    for readouts in (data.readouts, aligner.aligned_):
        clusters = cluster(readouts, 2, n_init=5, rng=0)
        score = adjusted_rand_score(data.labels, clusters.labels)
        pair.append((readouts, embed(readouts, rng=0), clusters.labels, score))
    columns.append((data.labels, pair))
    error = angle_errors(aligner.angles_, data.angles, data.labels)
    ratio = float(check.distance.mean() / check.expected.mean())
    rows.append([f"{noise:g}", *(float(score) for *_, score in pair), float(np.median(error))])
    rows[-1] += [ratio, f"{np.count_nonzero(check.overfitted)} of 2"]
header = ["noise", "ARI raw", "ARI aligned", "angle error", "distance / expected", "over-fit"]
table(header, rows)

# %%
# Triangles are neurons of the second type.

figure, axes = plt.subplots(4, len(levels), figsize=(11, 7.6), layout="constrained")
for noise, column, (labels, pair) in zip(levels, axes.T, columns):
    shown = np.sort(np.concatenate([np.flatnonzero(labels == k)[:8] for k in (0, 1)]))
    shown = shown[np.argsort(labels[shown], kind="stable")]
    column[0].set_title(f"noise {noise:g}", fontsize=9)
    for k, (readouts, places, found, score) in enumerate(pair):
        bars = readouts[shown, 0]
        extreme = np.abs(pair[0][0][shown]).max()
        column[k].imshow(bars, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto")
        column[k].axhline(7.5, color="black", linewidth=1)
        for kind, marker in enumerate("o^"):
            of = labels == kind
            colors = np.array(["C0", "C1"])[found[of]]
            column[2 + k].scatter(*places[of].T, s=9, c=colors, marker=marker, linewidths=0)
        column[2 + k].set_title(f"ARI {score:.2f}", fontsize=8)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
for ax, label in zip(axes[:, 0], ("raw", "aligned", "t-SNE of raw", "t-SNE of aligned")):
    ax.set_ylabel(label, fontsize=9)
finish(figure, "figB1_noise", args)
