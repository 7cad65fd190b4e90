"""
Fig. 5: one expert for everything
=================================

With a single expert, ECON is a generative extension of MONet: one VAE for all parts of scenes. Here
it is told the true regions, and learns what objects look like and what their whole shapes are; new
samples from its prior are shown (von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, Fig. 5).

What must be seen: whole objects and whole backgrounds, each apart from the others; but which of
them it will be nobody can choose.

Printed are the share of samples that are objects of each class (of an outline that fits with an IoU
of 0.8), backgrounds (that fill the image), and nothing that is known; and how well whole shapes are
told in new scenes, by how much of an object is seen.
"""

# %%
# The first layer of a sampled scene fills the canvas: what the expert makes of the second counts.

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, on_gray, panel_letter, row, steps, table
from econ_models import CLASSES, arguments, load, make_scenes, true_regions
from econ_shapes import CLEAN, classify

args = arguments()
model = load(args, "single")
n = 500
sampled = model.sample([0, 0], n=n, rng=0)
shapes, appearances = sampled.shapes[:, 1], sampled.appearances[:, 1]
kinds, ious = classify(shapes)
full = shapes.mean(axis=(1, 2)) > 0.9
kinds = np.where(full, 3, np.where(ious >= CLEAN, kinds, 4))
shares = (np.bincount(kinds, minlength=5) / n).tolist()
table(["samples", *CLASSES, "background", "other"], [[f"of the prior ({n})", *shares]])

# %%
# Given what is seen of objects in new scenes, how well are their whole shapes told?

scenes = make_scenes(300, args)
parts = model.decompose(scenes.images, regions=true_regions(scenes))
found = parts.shape[:, :3][:, ::-1] > 0.5  # from back to front
whole = np.take_along_axis(scenes.shapes, scenes.order[:, :, None, None], axis=1)
visible = np.take_along_axis(scenes.visibility, scenes.order, axis=1) / whole.sum(axis=(2, 3))
iou = (found & whole).sum(axis=(2, 3)) / (found | whole).sum(axis=(2, 3))
rows = []
for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 1.0), (1.0, 1.01)):
    here = (visible >= low) & (visible < high)
    label = "all" if low == 1 else f"{low:.1f} to {high:.1f}"
    means = [float(x[here].mean()) if here.any() else float("nan") for x in (iou, visible)]
    rows.append([label, int(here.sum()), *means])
table(["seen of the object", "objects", "IoU of the shape", "of what is seen"], rows)

# %%

figure = plt.figure(figsize=(7.6, 8.6), layout="constrained")
a, b = figure.subfigures(2, 1, height_ratios=[4, 4.4])
shown = on_gray(appearances, shapes)
for i, axes in enumerate(a.subplots(4, 10)):
    row(axes, shown[10 * i : 10 * (i + 1)])
panel_letter(a, "samples")
least = visible.min(axis=1)
i = int(np.argmin(np.where(least > 0.3, least, 1)))
steps(b.subplots(4, 6), scenes.images[i], parts, i, ["true region"])
panel_letter(b, "given the true regions")
finish(figure, "econ_fig5", args)
