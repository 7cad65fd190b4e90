"""
Fig. 2: optimal stimuli, and tuning curves made of them
=======================================================

A: the best Gabor, difference of Gaussians and image of a neuron, and of its cluster. B: the
stimulus of a cluster, at the place and in the orientation of each of its neurons. C to F: tuning to
orientation, phase, size and contrast, and to plaids, of one neuron each, with the index.

What must be seen: A, the two of oriented neurons look alike but for the DoG, and the MEI does best.
B, the stimulus is where the neuron is, and its stripes are parallel to the neuron's own, drawn as a
line. C to F, curves of the model have the shape of those of the simulated neuron itself (dashed,
for the same stimuli), and about its index.

Measured (--full): curves of the model and of the neuron correlate by .97 to 1.00 but for phase,
where both are flat; indices .60 and .61, .99 and 1.00, suppression .31 and .42, plaid .48 and .62.
"""

# %%
# A, B. The MEI of a cluster is a sum of functions that can be turned without loss.

import matplotlib.pyplot as plt
import numpy as np
from twin_figures import arguments, finish, gray, mosaic, table, turned, twin

from fastvis.twin import (
    atlas_figures,
    cross_orientation_inhibition,
    orientation_tuning,
    phase_tuning,
    size_contrast_tuning,
)
from fastvis.twin.atlas_figures import INK, RED

args = arguments()
recording, model, atlas = twin(args)
cortex, size = recording.truth, atlas.size
finish(atlas_figures.optimal_stimuli(atlas), "fig2a_optimal", args)

cluster = atlas_figures.chosen_clusters(atlas)[0]  # the most oriented one
neurons = atlas_figures.best_predicted(atlas, atlas.labels == cluster, 5)
own_gabors = atlas.gabors()[neurons].images(size)
meis = atlas["cluster_meis"]
own_meis = turned(np.repeat(meis["images"][[cluster]], len(neurons), 0), meis["angles"][neurons])
figure, axes = plt.subplots(2, len(neurons), figsize=(10, 4.4), layout="constrained", squeeze=False)
for column, neuron, shown, mei in zip(axes.T, neurons, own_gabors, own_meis):
    row, place = atlas["gabors"]["neuron_center"][neuron].round()
    half = mei.shape[0] / 2
    column[0].imshow(gray(shown))
    column[1].imshow(gray(np.zeros(size)))
    column[1].imshow(gray(mei), extent=(place - half, place + half, row + half, row - half))
    driven = [atlas[s]["responses" if s == "cluster_meis" else "cluster_responses"][neuron]
              for s in ("gabors", "cluster_meis")]  # fmt: skip
    angle, (y, x) = cortex.orientations[neuron], cortex.centers[neuron]
    for ax, response in zip(column, driven):
        ax.plot(x, y, "+", color=RED)
        if np.isfinite(angle):  # counter-clockwise from horizontal, rows go down
            step = 4 * np.cos(angle), -4 * np.sin(angle)
            ax.plot([x - step[0], x + step[0]], [y - step[1], y + step[1]], color=RED, linewidth=1)
        ax.set(xticks=[], yticks=[], xlim=(-0.5, size[1] - 0.5), ylim=(size[0] - 0.5, -0.5))
        ax.set_title(f"{response:.2f}", fontsize=8)
    column[0].set_title(f"neuron {neuron}: {driven[0]:.2f}", fontsize=8)
axes[0, 0].set_ylabel(f"Gabor of cluster {cluster + 1}")
axes[1, 0].set_ylabel("its MEI")
finish(figure, "fig2b_cluster", args)

# %%
# C to F. Of each experiment, the well-predicted neuron with the largest index. The same stimuli are
# shown to the model and to the simulated cortex.

share = atlas["scores"]["correlation"] / atlas["scores"]["ceiling"]
good = share >= np.nanmedian(share)
experiments = {
    "orientation": orientation_tuning,
    "phase_invariance": phase_tuning,
    "suppression": size_contrast_tuning,
    "cross_orientation": cross_orientation_inhibition,
}
gabors, shown, rows = atlas.gabors(), {}, []
for name, experiment in experiments.items():
    index = np.where(good, atlas["tuning"][name], -1)
    neuron = int(np.argmax(index))
    pair = [experiment(m, gabors[[neuron]], size, neurons=[neuron]) for m in (model, cortex)]
    values = [float(getattr(t, "invariance", t.index)[0]) for t in pair]
    r = float(np.corrcoef(*(t.curves.ravel() for t in pair))[0, 1])
    shown[name] = neuron, pair, values
    rows.append([name, f"{neuron}, {cortex.types[neuron]}", *values, r])
table(["index", "neuron", "of the model", "of the neuron", "r of the curves"], rows)

figure, axes = plt.subplots(3, 4, figsize=(10, 7.6), layout="constrained")
for i, (name, (neuron, pair, values)) in enumerate(shown.items()):
    column = axes[:, i]
    last = [t.curves[0].reshape(-1, t.curves.shape[-1])[-1] for t in pair]
    if name == "suppression":
        x, label = pair[0].sigmas[0], "sigma, pixels"
        column[0].set_xscale("log", base=2)
        column[0].set_xticks([2, 4, 8], ["2", "4", "8"])
    elif name == "cross_orientation":
        x, label = pair[0].orthogonal_contrasts[0], "orthogonal contrast"
    else:
        end = 180 if name == "orientation" else 360
        x, label = np.linspace(0, end, len(last[0]), endpoint=False), "degrees"
        column[0].set_xticks(np.linspace(0, end, 5))
    for curve, color, style, who in zip(last, (RED, INK), ("-", "--"), ("model", "itself")):
        column[0].plot(x, curve / curve.max(), style, color=color, label=who)
    title = f"{atlas_figures.PROPERTIES[name]}\nneuron {neuron}: {values[0]:.2f}"
    column[0].set_title(f"{title}, itself {values[1]:.2f}")
    column[0].set(xlabel=label, ylim=(0, 1.05))
    if pair[0].curves.ndim == 2:  # eight of the stimuli
        angles = np.deg2rad(np.arange(8) * end / 8)
        changed = {"orientation": angles} if name == "orientation" else {"phase": angles}
        for ax in column[1:]:
            ax.remove()
        ax = figure.add_subplot(axes[0, 0].get_gridspec()[1:, i])
        mosaic(ax, gabors[np.full(8, neuron)].images(size, **changed), 2)
        continue
    for ax, t, who in zip(column[1:], pair, ("model", "neuron itself")):
        ax.imshow(t.curves[0], origin="lower", aspect="auto")
        ax.set(xticks=[], yticks=[], xlabel=label.split(",")[0], ylabel="contrast", title=who)
axes[0, 0].set_ylabel("response, of the largest")
axes[0, 0].legend()
finish(figure, "fig2cf_tuning", args)
