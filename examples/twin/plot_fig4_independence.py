"""
Fig. 4: are non-linear properties independent of each other
===========================================================

A: means of clusters, each two properties, with correlations; B, C, D: which clusters are high, and
in which combinations. The paper finds no correlation of phase invariance, surround suppression and
cross-orientation inhibition, and all eight combinations, although suppression and inhibition could
be one divisive normalization. Would the analysis have found that? It is tried on two populations
whose wiring is known: in one, strengths of suppression and inhibition are drawn independently, in
the other both come from one pool. No model is fitted to these: the population answers for itself.

What must be seen: suppression and plaid index rise together in the second population only; phase
invariance correlates with neither. All eight combinations in the first, four of them in the second.
So it is, but independent strengths are not quite independent indices: both are in one denominator,
and where both are strong each hides the other.

Measured (--full, 400 neurons): suppression and plaid index, r = .99 with one pool; -.23 (p 3e-6)
with independent strengths, and -.62 among neurons that have both. Phase invariance with either,
-.02 to -.01 (of neurons that have both, -.12 to .04). Eight and four combinations. Of the twin:
four combinations among four Gabor-like clusters.
"""

# %%
# The two populations, of the eight or four oriented types, with the Gabors that they are made of.

import matplotlib.pyplot as plt
import numpy as np
from twin_figures import arguments, fields_of, finish, table, twin

from fastvis.twin import (
    atlas_figures,
    combinations,
    correlate_properties,
    cross_orientation_inhibition,
    high_low,
    natural_patches,
    phase_tuning,
    simulate_cortex,
    size_contrast_tuning,
)
from fastvis.twin.cortex import ORIENTED

args = arguments()
n_neurons = 400 if args.full else 120
size = (28, 28)
images = natural_patches(500, size, rng=args.seed)
names = ("phase invariance", "suppression", "plaid")
pairs = ((1, 2), (0, 1), (0, 2))

rows, panels = [], []
for coupling in ("independent", "shared pool"):
    types = [t for t in ORIENTED if coupling == "independent" or ("sup" in t) == ("cross" in t)]
    cortex = simulate_cortex(
        n_neurons, images, types=types, coupling=coupling, margin=10.0, rng=args.seed
    ).truth
    fields = fields_of(cortex)
    values = {
        "phase invariance": phase_tuning(cortex, fields, size).invariance,
        "suppression": size_contrast_tuning(cortex, fields, size).index,
        "plaid": cross_orientation_inhibition(cortex, fields, size).index,
    }
    _, of_type = np.unique(cortex.types, return_inverse=True)
    both = (cortex.suppression > 0) & (cortex.cross_inhibition > 0)
    every = correlate_properties(values)
    within = correlate_properties(values, subset=both)
    found = combinations(high_low(values, of_type))
    panels.append((coupling, cortex, values, every))
    for i, j in pairs:
        row = [f"{coupling}: {names[i]}, {names[j]}", float(every.r[i, j]), f"{every.p[i, j]:.1g}"]
        row += [float(within.r[i, j]), f"{within.p[i, j]:.1g}"]
        rows.append([*row, f"{found.n_present} of {len(found.counts)}"])
table(["", "r", "p", "r where both are", "p", "combinations of types"], rows)

# %%
figure, axes = plt.subplots(2, 3, figsize=(10, 6.4), layout="constrained")
for row, (coupling, cortex, values, found) in zip(axes, panels):
    complexity = np.char.startswith(cortex.types, "complex")
    for ax, (i, j) in zip(row, pairs):
        for which, label, color in (
            (~complexity, "simple", atlas_figures.COLORS["suppression"]),
            (complexity, "complex", atlas_figures.COLORS["phase_invariance"]),
        ):
            x, y = values[names[i]][which], values[names[j]][which]
            ax.scatter(x, y, s=9, color=color, label=label, linewidths=0)
        p = atlas_figures.p_value(found.p[i, j])
        ax.set(xlabel=names[i], ylabel=names[j], title=f"r = {found.r[i, j]:.2f} (p {p})")
    row[0].annotate(coupling, (0.97, 0.97), xycoords="axes fraction", ha="right", va="top")
axes[0, 2].legend(loc="lower left", bbox_to_anchor=(0, 1.08), ncols=2)
finish(figure, "fig4_coupling", args)

# %%
# The same analysis of the twin: of its clusters, as in the paper.

_, _, twins = twin(args)
finish(atlas_figures.scatter_matrix(twins), "fig4a_pairs", args)
finish(atlas_figures.maps_of_high(twins), "fig4bd_high", args)
finish(atlas_figures.combinations(twins), "fig4c_combinations", args)
counts = np.array(twins.statistics["combinations"])
print(
    f"twin: {(counts > 0).sum()} of {len(counts)} combinations among {counts.sum()} Gabor-like "
    f"clusters of {twins.n_clusters}"
)
