"""
Fig. 1: the atlas of a population
=================================

B: the recording; Table 1: several of them pooled. C: how well the model predicts. D: bar codes as
fitted and aligned, by cluster. E to G: the embedding by cluster, MEIs of neurons, MEIs of clusters;
F: MEIs of the 16 best predicted neurons of four clusters.

What must be seen: D, aligned rows of a cluster are alike. F, MEIs of a cluster are the same up to
place and turn. G, "neighboring clusters tend to have visually similar cluster MEIs": the farther
apart two clusters are, the less alike their MEIs, after the best turn. Animals that saw other
images, and test images more or less often, pool to the images that all of them saw.

Measured (--full): correlation to the average .98 of a ceiling of .99, of the linear model .53. MEIs
of clusters and distances of bar codes: rank correlation -.60 (p .018), in the embedding -.34 (p
.22), of 15 pairs only.
"""

# %%
# Table 1: three simulated animals. Each missed some images, and one has seen each test image two
# times less; pooled, it is given two of its trials again.

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from twin_figures import arguments, cropped, finish, mosaic, table, turned, twin

from fastvis.twin import Recording, atlas_figures, pool_recordings, summary_table

args = arguments()
recording, model, atlas = twin(args)
rng = np.random.default_rng(args.seed)
neurons = np.array_split(np.arange(recording.n_neurons), 3)
is_test = recording.tiers == "test"
_, first, of_image = np.unique(recording.image_ids, return_index=True, return_inverse=True)
repeat = np.arange(len(of_image)) - first[of_image]  # trials of an image follow each other
animals = []
n_repeats = repeat[is_test].max() + 1
for part, missed in zip(neurons, (0, 0, 2)):
    seen = rng.random(len(recording.images)) < 0.9
    kept = np.where(is_test, repeat < n_repeats - missed, seen[recording.image_ids])
    animals.append(
        Recording(
            recording.images, recording.responses[kept][:, part], recording.image_ids[kept],
            recording.tiers[kept],
        )
    )  # fmt: skip
pooled = pool_recordings(animals, rng=args.seed)
print(summary_table(animals, pooled), end="\n\n")

# %%
# B, C.

print(f"1B: {recording}")
found = {name: float(np.median(value)) for name, value in atlas["scores"].items()}
rows = [
    ["single-trial correlation", found["single_trial"], found["glm_single_trial"], ".42"],
    ["oracle", found["oracle"], found["oracle"], ""],
    ["fraction of the oracle", found["single_trial"] / found["oracle"],
     found["glm_single_trial"] / found["oracle"], ".69"],
    ["correlation to average", found["correlation"], found["glm_correlation"], ""],
    ["its ceiling", found["ceiling"], found["ceiling"], ""],
]  # fmt: skip
table(["1C: medians over neurons", "model", "linear model", "paper"], rows)
finish(atlas_figures.scores(atlas), "fig1c_scores", args)

# %%
# D to G.

finish(atlas_figures.bar_codes(atlas), "fig1d_bar_codes", args)
finish(atlas_figures.maps_of_meis(atlas), "fig1eg_maps", args)

sizes = np.bincount(atlas.labels)
largest = np.argsort(-sizes, kind="stable")[:4]
figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
for ax, cluster in zip(axes, largest):
    best = atlas_figures.best_predicted(atlas, atlas.labels == cluster)
    mosaic(ax, cropped(atlas, atlas["meis"]["images"][best], best), 4)
    ax.set_title(f"cluster {cluster + 1}")
finish(figure, "fig1f_meis", args)

# %%
# The claim of G. Distances in the embedding and of aligned bar codes, against similarity of MEIs:
# the cosine after the best of 72 turns.

labels, images = atlas.labels, atlas["cluster_meis"]["images"]
angles = np.arange(72) * 2 * np.pi / 72
unit = images.reshape(len(images), -1) / np.linalg.norm(images, axis=(1, 2))[:, None]
similar = np.max(
    [unit @ (t / np.linalg.norm(t, axis=1, keepdims=True)).T
     for t in (turned(images, a).reshape(len(images), -1) for a in angles)], axis=0
)  # fmt: skip
similar = (similar + similar.T)[np.triu_indices(len(images), 1)] / 2
codes = atlas["alignment"]["aligned"].reshape(len(labels), -1)
rows, panels = [], {}
for name, places in (("embedding", atlas["alignment"]["embedding"]), ("bar codes", codes)):
    centers = np.stack([np.median(places[labels == c], 0) for c in range(atlas.n_clusters)])
    panels[name] = pdist(centers)
    r, p = spearmanr(panels[name], similar)
    rows.append([f"distance in the {name}", len(similar), float(r), f"{p:.2g}"])
table(["1G: similarity of cluster MEIs and", "pairs", "rank correlation", "p"], rows)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
for ax, (name, distances), row in zip(axes, panels.items(), rows):
    ax.scatter(distances, similar, s=14, color=atlas_figures.INK, linewidths=0)
    ax.set(xlabel=f"distance in the {name}", title=f"rank correlation {row[2]:.2f} (p {row[3]})")
axes[0].set_ylabel("similarity of cluster MEIs")
finish(figure, "fig1g_claim", args)
