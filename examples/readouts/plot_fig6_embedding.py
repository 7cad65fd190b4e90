"""
Fig. 6: clusters, and what their neurons compute
================================================

A t-SNE embedding of aligned readouts, colored by cluster, stars at the centers; around it maximally
exciting images (MEIs) of the 16 best-predicted neurons of a cluster, for the largest cluster of
eight blocks (Ustyuzhaninov et al., ICLR 2020, Fig. 6).

What must be seen: neurons of a cluster are together in the embedding, and their MEIs are the same
up to rotation and place, while those of different blocks differ. So it is, except that two clusters
hold two types each (two islands with one star; 7 is one) and one cluster is a single neuron.

Measured for 1500 neurons: seven of the eight clusters shown are pure, of 50 neurons of one type.
MEIs, moved and turned, drive neurons of their own cluster to 0.64 to 0.85 of what a neuron's own
MEI does, those of the other seven to 0.41 to 0.49. It is not 1 because the features know eight
orientations only: the MEI of a neuron between two of them is not a turned one.
"""

# %%
# A cluster's center is embedded together with the neurons. How well a neuron is predicted is here
# the correlation between its responses with and without noise in its readout.

import matplotlib.pyplot as plt
import numpy as np
from population import analyze
from readout_figures import arguments, finish, mosaic, table

from fastvis.readouts import embed, mei_confusion, plots

args = arguments()
analysis = analyze(args.full)
population, clusters, blocks = analysis.population, analysis.clusters, analysis.blocks
aligned = analysis.aligner.aligned_

places = embed(np.concatenate([aligned, clusters.means]), rng=0)
places, centers = places[: len(aligned)], places[len(aligned) :]

# %%
# Are MEIs of a cluster the same up to rotation and place? Each is shown, moved and turned, to the
# other fifteen neurons, and to those of the other clusters; responses relative to a neuron's own.

shown = [analysis.one_of(block) for block in range(min(8, blocks.n_blocks))]
members = [analysis.best(cluster) for cluster in shown]
neurons = np.concatenate(members)
of = np.repeat(shown, [len(rows) for rows in members])
meis = population.core.meis(population.readouts[neurons])
shifts = np.stack(np.meshgrid(np.arange(-6, 7, 3), np.arange(-6, 7, 3)), -1).reshape(-1, 2)
driven = mei_confusion(
    lambda images: population.core.activities(images, population.readouts[neurons]),
    meis,
    n_rotations=16,
    shifts=shifts,
    normalize=True,
)
rows = []
for cluster in shown:
    own = of == cluster
    within = driven[np.ix_(own, own)][~np.eye(own.sum(), dtype=bool)]
    types = np.bincount(population.labels[clusters.labels == cluster])
    pure = float(types.max() / types.sum())
    row = [f"cluster {cluster}, block {blocks.labels[cluster]}", int(clusters.sizes[cluster]), pure]
    row += [float(population.scores[neurons[own]].min()), float(within.mean())]
    rows.append([*row, float(driven[np.ix_(~own, own)].mean())])
table(["", "neurons", "of one type", "least score", "by own cluster", "by others"], rows)

# %%
figure = plt.figure(figsize=(10, 9.6))
middle = figure.add_axes([0.2, 0.28, 0.6, 0.44])
plots.plot_embedding(places, clusters.labels, centers, ax=middle)
middle.collections[-1].set_sizes([25])
for cluster in shown:
    middle.annotate(
        str(blocks.labels[cluster]),
        centers[cluster],
        (6, 6),
        textcoords="offset points",
        fontsize=12,
        fontweight="bold",
    )
slots = [(left, bottom) for bottom in (0.74, 0.01) for left in (0.005, 0.255, 0.505, 0.755)]
for (left, bottom), cluster in zip(slots, shown):
    title = f"block {blocks.labels[cluster]}: cluster {cluster}"
    mosaic(figure.add_axes([left, bottom, 0.24, 0.235]), meis[of == cluster], title)
finish(figure, "fig6_embedding", args)
