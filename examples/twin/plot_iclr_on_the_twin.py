"""
ICLR 2020, Figs. 3 to 7, on the twin
====================================

From images to functional types, as in Ustyuzhaninov et al., ICLR 2020: the readouts of a model that
was fitted to the simulated cortex are aligned (Figs. 3 and 4), clustered (5), embedded with their
most exciting images (6), and clusters and neurons are compared by what they do (7). The other
folder of examples has these figures for a synthetic population of thirty types.

What must be seen: 3, two neurons of a type come closest at the difference of their orientations.
4, aligned, rows of a type are alike and closer to each other. 5, the held-out likelihood of aligned
readouts is above that of raw ones, and rises hardly more beyond the number of types. 6, MEIs of a
cluster are the same but for place and turn. 7, blocks; MEIs of their own block drive neurons most.

Measured (--full): distances within a type fall from 1.00 to .45 by alignment, of all neurons from
1.32 to 1.15; angles are off by 1.7 degrees in the median. 5, 103 at six components, 106 at most
(twelve); raw 73 at most. A mixture of six finds the types to .93 (adjusted Rand index). 7, three
blocks: MEIs of the own block drive neurons to .88 of their own MEI, those of others to .58.
"""

# %%
# Figs. 3 and 4. Alignment knows neither types nor orientations.

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist
from sklearn.metrics import adjusted_rand_score
from twin_figures import CentralNeurons, arguments, cropped, finish, mosaic, table, twin

from fastvis.readouts import (
    RotationAligner,
    cluster,
    cluster_confusion,
    embed,
    heldout_loglik,
    mei_confusion,
    merge_blocks,
    plots,
)
from fastvis.twin import atlas_figures
from fastvis.twin.responding import Responder

args = arguments()
recording, model, atlas = twin(args)
cortex = recording.truth
names, types = np.unique(cortex.types, return_inverse=True)
readouts = model.readouts()
n_orientations = readouts.shape[2]
unit = readouts / np.linalg.norm(readouts, axis=(1, 2), keepdims=True)
aligner = RotationAligner(n_orientations, normalize="l2", rng=args.seed).fit(readouts)
aligned = aligner.aligned_


def within(x):
    """Mean distance between neurons of a type."""
    flat = x.reshape(len(x), -1)
    return float(np.mean([pdist(flat[types == k]).mean() for k in np.unique(types)]))


rows = []
for name, x in (("raw", unit), ("aligned", aligned)):
    found = cluster(x, len(names), "kmeans", n_init=5, rng=args.seed)
    flat = x.reshape(len(x), -1)
    rows.append([name, within(x), float(pdist(flat).mean())])
    rows[-1] += [float(adjusted_rand_score(types, found.labels)), found.stability]
header = ["4: readouts", "distance within a type", "of all", "k-means, ARI to types", "stability"]
table(header, rows)

oriented = ~np.isnan(cortex.orientations)
off = []
for k in np.unique(types[oriented]):  # a type may be turned as a whole, and by half a turn
    own = oriented & (types == k)
    turns = np.exp(2j * (aligner.angles_[own] - cortex.orientations[own]))
    off.append(np.abs(np.angle(turns / turns.mean())) / 2)
print(f"angles off by {np.degrees(np.median(np.concatenate(off))):.1f} degrees in the median\n")

figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
good = np.argsort(-atlas["scores"]["correlation"])
pair = next((i, j) for i in good for j in good[good != i] if types[i] == types[j] and oriented[i])
plots.plot_distance_curves(unit[pair[0]], unit[pair[1]], ax=axes[0])
axes[0].set_title(f"neurons {pair[0]} and {pair[1]}, {names[types[pair[0]]]}")
for ax, x, title in ((axes[1], unit, "as fitted, by type"), (axes[2], aligned, "aligned")):
    plots.plot_readouts(x, types, ax)
    ax.set_title(title)
finish(figure, "iclr_fig3_fig4_alignment", args)

# %%
# Fig. 5. Two thirds of the neurons to fit, as in the paper.

counts = [c for c in (1, 2, 3, 4, 6, 8, 10, 12, 15, 20) if c <= len(types) // 4]
figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
rows = []
for (name, x), color in zip((("raw", unit), ("aligned", aligned)), (atlas_figures.GRAY, "C0")):
    curve = heldout_loglik(x, counts, n_splits=4, n_init=2, rng=args.seed)
    ax.plot(counts, curve.test.mean(0), "o-", color=color, label=name, markersize=4)
    rows.append([name, curve.best, float(curve.test.mean(0).max())])
table([f"5: {len(names)} types", "best number", "held-out log-likelihood"], rows)
ax.axvline(len(names), color=atlas_figures.INK, linewidth=0.7, label="types")
ax.set(xlabel="components", ylabel="log-likelihood per neuron")
ax.legend()
finish(figure, "iclr_fig5_loglik", args)

# %%
# Fig. 6. As many Gaussians as there are types.

clusters = cluster(aligned, len(names), rng=args.seed)
labels = clusters.labels
print(f"6: {clusters}, adjusted Rand index to types {adjusted_rand_score(types, labels):.2f}")
places = embed(np.concatenate([aligned, clusters.means]), rng=args.seed)

# %%
# Fig. 7. Hypothetical neurons at the central pixel that have the means of clusters as readouts.

shown = recording.images[recording.image_ids[recording.tiers == "train"]][:2000]
central = CentralNeurons(model)
features = central.features(central.patches(recording.normalization().images(shown)))
length = np.median(np.linalg.norm(readouts, axis=(1, 2)))
confusion = cluster_confusion(lambda x: central.responses(features, length * x), labels, aligned)
blocks = merge_blocks(confusion, 0.5)
print(f"7: {confusion}; {blocks}")

score = atlas["scores"]["correlation"]
chosen = np.sort(good[score[good] >= 0.7][:100])
ask = Responder(model)
driven = mei_confusion(lambda x: ask(x)[:, chosen], atlas["meis"]["images"][chosen], normalize=True)
block = blocks.labels[np.searchsorted(confusion.clusters, labels)]
same = block[chosen][:, None] == block[chosen]
off_diagonal = ~np.eye(len(chosen), dtype=bool)
is_type = types[chosen][:, None] == types[chosen]
rows = [
    [f"same {what}", float(driven[which & off_diagonal].mean()), float(driven[~which].mean())]
    for what, which in (("block", same), ("type", is_type))
]
table([f"7: {len(chosen)} neurons driven by MEIs of", "yes", "no"], rows)

# %%
figure = plt.figure(figsize=(11, 4.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1.15])
ax = left.subplots()
plots.plot_embedding(places[: len(labels)], labels, places[len(labels) :], ax=ax)
ax.collections[-1].set_sizes([25])
ax.spines[:].set_visible(False)
for i, place in enumerate(places[len(labels) :]):
    ax.annotate(str(i + 1), place, (5, 5), textcoords="offset points", fontweight="bold")
largest = np.argsort(-clusters.sizes, kind="stable")[:6]
for ax, k in zip(right.subplots(2, 3).flat, np.sort(largest)):
    best = atlas_figures.best_predicted(atlas, labels == k)
    mosaic(ax, cropped(atlas, atlas["meis"]["images"][best], best), 4)
    ax.set_title(f"cluster {k + 1}, block {blocks.labels[np.searchsorted(confusion.clusters, k)]}")
finish(figure, "iclr_fig6_embedding", args)

figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
rows_of = np.searchsorted(confusion.clusters, labels[chosen])
plots.plot_confusion(confusion, blocks, ax=axes[0])
plots.plot_confusion(driven, blocks, rows_of, ax=axes[1])
axes[0].set_title(f"{len(confusion.clusters)} clusters: correlation")
axes[1].set_title(f"{len(chosen)} neurons (columns), MEIs (rows): relative activity")
for ax in axes:
    figure.colorbar(ax.images[0], ax=ax, shrink=0.8)
finish(figure, "iclr_fig7_confusion", args)
