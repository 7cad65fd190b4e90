"""
Fig. 7: clusters that compute nearly the same
=============================================

Correlation between the responses of hypothetical neurons that have the centers of two clusters as
readouts, arranged in blocks at a threshold of 0.5; and how strongly each well-predicted neuron is
driven by the maximally exciting image (MEI) of each other one, moved and turned to drive it best,
in the same order (Ustyuzhaninov et al., ICLR 2020, Fig. 7).

What must be seen: clusters fall into far fewer blocks, which are bright squares on the diagonal of
both matrices, with different degrees of similarity within a block. So it is.

Measured for 1500 neurons of thirty types that compute ten functions: 30 clusters in 9 blocks, which
are the ten functions (ARI 0.90) but for two that correlate at 0.7 and share block 0; at thresholds
of 0.7 and 0.8 all ten (ARI 1.00). Of 641 neurons with a score of 0.9 or more 160 are shown: MEIs
of their own block drive them to 0.68 of what their own MEI does, others to 0.44; in 8 of 9 blocks
the block's own MEIs do most. Blocks 2, 4 and 7 show the limit: the coarse features of one are
driven by the MEIs of the others, though responses to natural images hardly correlate.
"""

# %%
# The simulated core has six of its features twice, so that thirty types compute ten functions.

import matplotlib.pyplot as plt
import numpy as np
from population import analyze
from readout_figures import arguments, finish, table
from sklearn.metrics import adjusted_rand_score

from fastvis.readouts import mei_confusion, merge_blocks, plots

args = arguments()
least_score, n_shown = 0.9, 542 if args.full else 160

analysis = analyze(args.full)
population, clusters, blocks = analysis.population, analysis.clusters, analysis.blocks
functions = population.functions[population.labels]

rows = []
for threshold in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
    merged = merge_blocks(analysis.confusion, threshold)
    score = adjusted_rand_score(functions, merged.labels[clusters.labels])
    rows.append([threshold, merged.n_blocks, float(score)])
table(["threshold", "blocks", "ARI of neurons to the ten functions"], rows)

# %%
# Well-predicted neurons, 542 in the paper; activities relative to what a neuron's own MEI does.

good = np.flatnonzero(population.scores >= least_score)
print(f"{len(good)} of {len(population)} neurons have a score of {least_score} or more")
good = np.random.default_rng(0).permutation(good)[:n_shown]
readouts = population.readouts[good]
meis = population.core.meis(readouts)
shifts = np.stack(np.meshgrid(np.arange(-6, 7, 3), np.arange(-6, 7, 3)), -1).reshape(-1, 2)
driven = mei_confusion(
    lambda images: population.core.activities(images, readouts),
    meis,
    n_rotations=16,
    shifts=shifts,
    normalize=True,
)
labels = clusters.labels[good]
block = blocks.labels[labels]
same = block[:, None] == block
off = ~np.eye(len(good), dtype=bool)
within, between = driven[same & off].mean(), driven[~same].mean()
of_blocks = [[driven[np.ix_(block == a, block == b)].mean() for b in np.unique(block)]
             for a in np.unique(block)]  # fmt: skip
strongest = np.argmax(of_blocks, axis=0) == np.arange(len(of_blocks))
print(
    f"{len(good)} of them, in {len(of_blocks)} of {blocks.n_blocks} blocks: driven to {within:.2f} "
    f"of their best by MEIs of their own block, to {between:.2f} by others; own block strongest in "
    f"{strongest.sum()} of {len(of_blocks)}"
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
plots.plot_confusion(analysis.confusion, blocks, ax=axes[0])
plots.plot_confusion(driven, blocks, labels, ax=axes[1])
axes[0].set_title(f"{len(clusters.sizes)} clusters: correlation", fontsize=9)
axes[1].set_title(f"{len(good)} neurons (columns) and MEIs (rows): relative activity", fontsize=9)
for ax in axes:
    figure.colorbar(ax.images[0], ax=ax, shrink=0.8)
finish(figure, "fig7_confusion", args)
