"""
Fig. 3: results of the in silico experiments
============================================

The embedding of all neurons, colored by seven properties, with their histograms; examples of tuning
curves from low to high index; curves of the 16 best predicted neurons of two clusters.

What must be seen: properties differ between parts of the map, and are alike within clusters: most
clusters differ from the population in some property (Kolmogorov-Smirnov), random ones in none.
Beside the paper, which cannot know: within a type of simulated neurons, indices are those of the
type. Complex cells are invariant to phase, suppressed ones suppressed, only "cross" is inhibited.

Measured (--full): 6 of 6 clusters differ in some property, of random ones 5 %. Medians of the
types: phase invariance .97 or .98 of complex cells, .20 or .21 of others; suppression .44 where it
is built in, elsewhere .00; plaid .48 where it is, elsewhere .05 to .17 instead of 0.
"""

import matplotlib.pyplot as plt
import numpy as np
from twin_figures import arguments, finish, table, twin

from fastvis.twin import atlas_figures
from fastvis.twin.atlas_figures import COLORS, PROPERTIES

args = arguments()
recording, _, atlas = twin(args)
types, properties = recording.truth.types, atlas.properties
rows = [
    [name, int(np.sum(types == name)), *(atlas_figures.median(v[types == name])
                                         for v in properties.values())]
    for name in np.unique(types)
]  # fmt: skip
table(["median of type", "neurons", *PROPERTIES.values()], rows)

statistics = atlas.statistics
table(
    ["clusters that differ from the population", "here", "random clusters", "paper"],
    [
        [f"in {which} propert{'y' if which == 'any' else 'ies'}",
         f"{statistics['ks_' + which]} of {atlas.n_clusters}",
         float(statistics["ks_control_" + which]), paper]
        for which, paper in (("any", "50 of 50"), ("all", "15 of 50"))
    ],
)  # fmt: skip

# %%
finish(atlas_figures.maps_of_properties(atlas), "fig3_maps", args)

# %%
# Well-predicted neurons of low, middle and high index.

curves = {
    "orientation": "orientation_curves",
    "phase_invariance": "phase_curves",
    "suppression": "size_contrast_curves",
    "cross_orientation": "plaid_curves",
}
labels = ("orientation", "phase", "size", "orthogonal contrast")
good = np.argsort(-atlas["scores"]["correlation"])[: max(5, len(types) // 2)]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, (name, stage), label in zip(axes, curves.items(), labels):
    index = atlas["tuning"][name]
    order = good[np.argsort(index[good])]
    for neuron, shade in zip(order[[0, len(order) // 2, -1]], (0.25, 0.55, 1)):
        curve = atlas["tuning"][stage][neuron]
        curve = curve.reshape(-1, curve.shape[-1])[-1]  # at the highest contrast
        said = {"color": COLORS[name], "alpha": shade, "label": f"{index[neuron]:.2f}"}
        ax.plot(curve / (curve.max() or 1), **said)
    ax.set(title=PROPERTIES[name], xlabel=label, ylim=(0, 1.05), xticks=[])
    ax.legend(loc="lower left", bbox_to_anchor=(-0.05, 1.08), ncols=3, handlelength=1,
              columnspacing=1)  # fmt: skip
axes[0].set_ylabel("response, of the largest")
finish(figure, "fig3_examples", args)

# %%
# The clusters of the strongest surround suppression and cross-orientation inhibition.

means = statistics["means"]
for name in ("suppression", "cross_orientation"):
    cluster = int(np.argmax(means[name]))
    kinds = zip(*np.unique(types[atlas.labels == cluster], return_counts=True))
    print(f"cluster {cluster + 1}: {', '.join(f'{n} {kind}' for kind, n in kinds)}")
    finish(atlas_figures.tuning(atlas, cluster), f"fig3_{name}", args)
