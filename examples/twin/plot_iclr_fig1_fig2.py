"""
ICLR 2020, Figs. 1 and 2, on the twin: why readouts can be compared
===================================================================

The core of the model turns with its images: features of a turned image are those of the image,
shifted along orientations (2A). So neurons that do the same in different orientations have readouts
that differ by a shift (2B), and once shifts are undone readouts tell what neurons compute (1).

What must be seen: A, maps of the turned image are those above, turned, two orientations further on.
B, a neuron whose readout is shifted responds to turned images as the neuron itself does to those
that are not turned, to rounding; as it is, it does not. 1, aligned readouts of a type are alike.

Measured (--full): features off by 2e-6 of the largest, responses by 8e-7; as they are by .8.
"""

# %%
# The numbers: 2,000 natural images, turned by 90, 180 and 270 degrees, and all neurons' readouts.

import matplotlib.pyplot as plt
import numpy as np
import torch
from twin_figures import CentralNeurons, arguments, finish, table, twin

args = arguments()
recording, model, atlas = twin(args)
readouts, cortex = model.readouts(), recording.truth
images = recording.normalization().images(recording.images)
central = CentralNeurons(model)
patches = central.patches(images[recording.image_ids[recording.tiers == "train"]][:2000])
features = central.features(patches)
reference = central.responses(features, readouts)
quarter = central.n_orientations // 4
rows = []
for k in (1, 2, 3):
    of_turned = central.features(np.rot90(patches, k, (1, 2)))
    off = [np.abs(of_turned - np.roll(features, k * quarter, 2)).max() / np.abs(features).max()]
    for x in (np.roll(readouts, k * quarter, 2), readouts):
        off.append(np.abs(central.responses(of_turned, x) - reference).max() / reference.max())
    rows.append([f"by {90 * k} degrees", *(f"{x:.1g}" for x in off)])
header = ["images turned", "features, shifted", "responses, readouts shifted", "as they are"]
table([*header[:1], *(f"{name}: off by" for name in header[1:])], rows)

# %%
# 2A. The image that changes most between orientations, and the feature that does.

spread = features.std(2)
image, feature = np.unravel_index(spread.argmax(), spread.shape)
side = min(model.image_size_)
whole = images[recording.image_ids[recording.tiers == "train"]][image][:side, :side]
figure = plt.figure(figsize=(10, 5.6), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.25])
for row, k in zip(upper.subplots(2, 1 + central.n_orientations), (0, 1)):
    shown = np.ascontiguousarray(np.rot90(whole, k))
    with torch.no_grad():
        maps = model.module_.core(torch.from_numpy(shown)[None, None])[0].numpy()
    maps = maps.reshape(central.n_orientations, -1, *maps.shape[1:])[:, feature]
    row[0].imshow(shown, cmap="gray")
    row[0].set_ylabel("turned by 90\u00b0" if k else "image", fontsize=8)
    for o, (ax, values) in enumerate(zip(row[1:], maps)):
        ax.imshow(values, vmin=maps.min(), vmax=maps.max())
        ax.set_title("" if k else f"{o * 360 / central.n_orientations:.0f}\u00b0", fontsize=8)
    for ax in row:
        ax.set(xticks=[], yticks=[])
upper.suptitle(f"2A: feature {feature + 1} in all orientations", fontsize=10)

# %%
# 2B and 1. Two types with three of their best predicted neurons: readouts as fitted, and aligned.

axes = lower.subplots(2, 6)
names = [t for t in np.unique(cortex.types) if t in ("simple", "complex")]
good = np.argsort(-atlas["scores"]["correlation"])
aligned = atlas["alignment"]["aligned"]
for row, name in zip(axes, names):
    best = good[cortex.types[good] == name][:3]
    for column, (x, title) in enumerate(((readouts, "as fitted"), (aligned, "aligned"))):
        for ax, neuron in zip(row[3 * column :], best):
            ax.imshow(x[neuron], aspect="auto", cmap="gray_r", vmin=0)
            ax.set(xticks=[], yticks=[])
            degrees = np.degrees(cortex.orientations[neuron])
            ax.set_title(f"{neuron}: {degrees:.0f}\u00b0, {title}", fontsize=8)
    row[0].set_ylabel(name, fontsize=8)
lower.suptitle("2B, 1: readouts (orientations across, features down), true angles", fontsize=10)
finish(figure, "iclr_fig1_fig2_equivariance", args)
