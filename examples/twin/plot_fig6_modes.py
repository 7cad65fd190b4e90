"""
Fig. 6: functional modes
========================

Peaks of the density of the embedding, beside the clusters of k-means. The paper counts about 30 by
eye; here they are counted, and it is said how much the number can be trusted: for other bandwidths,
and when neurons are resampled.

What must be seen: about as many modes as there are kinds of neurons, found again in most
resamples. Densities of t-SNE are not those of bar codes, and the number falls with the bandwidth:
modes are not a measurement of the number of types.

Measured (--full): 5 modes for 6 types, in all resamples, as two types are neighbors; 4 to 5 over
bandwidths. Modes and types agree to .82, k-means and types to .94 (adjusted Rand index).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import adjusted_rand_score
from twin_figures import arguments, embedding, finish, table, twin

from fastvis.twin import atlas_figures, count_modes
from fastvis.twin.atlas_figures import GRAY, INK

args = arguments()
recording, _, atlas = twin(args)
types = recording.truth.types
places = atlas["alignment"]["embedding"]
modes = count_modes(places, rng=args.seed)
nearest = np.square(places[:, None] - modes.peaks).sum(2).argmin(1)
rows = [
    ["k-means", atlas.n_clusters, float(adjusted_rand_score(types, atlas.labels)),
     f"{float(atlas['alignment']['stability']):.2f} between seeds"],
    ["modes, nearest peak", modes.n_modes, float(adjusted_rand_score(types, nearest)),
     f"{modes.support.mean():.2f} of resamples have a peak"],
]  # fmt: skip
table(["", "number", f"adjusted Rand index to {len(np.unique(types))} types", "stability"], rows)
counts = modes.bootstrap_counts
table(
    ["bandwidth", "modes", "of resampled neurons"],
    [[float(b), int(n), f"{c.min()} to {c.max()}"]
     for b, n, c in zip(modes.bandwidths, modes.counts, counts.T)],
)  # fmt: skip
print(f"modes and k-means agree to {adjusted_rand_score(atlas.labels, nearest):.2f}")

# %%
finish(atlas_figures.modes(atlas), "fig6_modes", args)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
codes = np.unique(types, return_inverse=True)[1]
embedding(left, atlas, plt.get_cmap("tab10")(codes))
for code, name in enumerate(np.unique(types)):
    left.scatter([], [], color=plt.get_cmap("tab10")(code), label=name)
left.legend(loc="center right", bbox_to_anchor=(0, 0.5))
left.set_title("true types")
right.fill_between(
    modes.bandwidths, counts.min(0), counts.max(0), color=GRAY, alpha=0.3, label="resampled neurons"
)
right.plot(modes.bandwidths, modes.counts, "o-", color=INK, label="all neurons")
right.axvline(modes.bandwidth, color=GRAY, linewidth=0.8)
right.axhline(len(np.unique(types)), color=GRAY, linewidth=0.8, linestyle="--", label="true types")
right.set(xlabel="bandwidth", ylabel="modes", ylim=(0, None))
right.legend()
finish(figure, "fig6_stability", args)
