"""
Fig. 4: a scene is explained away from front to back
====================================================

A scene with four objects, two of them of one class, for a model that has only seen three, one of
each class. Rows are steps of the inference, t' = 1 being the front; columns what is left of the
scene, the region that the winner takes, what it paints, that within the region, and the whole shape
(von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, Fig. 4).

What must be seen: each step takes one object, also of the two of a class; where objects hide each
other, the shape is whole, and the hidden one is painted on behind the other. In the paper objects
have random colors, and two of the four have nearly the same: ``--colors random``.

Printed are measures for 300 such scenes, and how well whole shapes are told, by how much of an
object is seen, next to the IoU of what is seen itself.
"""

# %%
# Four objects of random classes, of which two are of one class; each is seen by a fifth at least.

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, steps, table
from econ_models import arguments, evaluate, expert_names, load, make_scenes, seen

from fastvis.scenes import metrics

args = arguments()
model = load(args)
usual = make_scenes(300, args)
usual_scores, usual_parts = evaluate(model, usual)
names = expert_names(usual_parts, usual, model.n_experts)

scenes = seen(make_scenes(1500, args, rng=11, n_objects=4))
counts = np.array([np.bincount(row, minlength=3) for row in scenes.table["shape"]])
scenes = scenes[(counts == 2).sum(axis=1) == 1][:300]
scores, parts = evaluate(model, scenes, n_steps=5)

measures = ("ari_fg", "ari", "covering", "order", "nmi", "amodal")
table(
    ["scenes", *measures],
    [
        ["three objects, as in the training", *(usual_scores[name] for name in measures)],
        [f"four objects ({len(scenes)} scenes)", *(scores[name] for name in measures)],
    ],
)

# %%
# Whole shapes: of objects of which little is seen, much is made up.

partners = metrics.match_shapes(scenes.shapes, parts.shape)
area = scenes.shapes.sum(axis=(2, 3))
visible = scenes.visibility / area
found = np.take_along_axis(parts.shape, np.maximum(partners, 0)[:, :, None, None], axis=1) > 0.5
found &= (partners >= 0)[:, :, None, None]
shared, union = (f(found, scenes.shapes).sum(axis=(2, 3)) for f in (np.logical_and, np.logical_or))
iou = shared / union
edges = (0.2, 0.4, 0.6, 0.8, 1.0, 1.01)
rows = []
for low, high in zip(edges, edges[1:]):
    here = (visible >= low) & (visible < high)
    label = "all" if low == 1 else f"{low:.1f} to {high:.1f}"
    means = [float(x[here].mean()) if here.any() else float("nan") for x in (iou, visible)]
    rows.append([label, int(here.sum()), *means])
table(["seen of the object", "objects", "IoU of the shape", "of what is seen"], rows)

# %%
# The scene shown is the first with two objects that hide parts of others, well taken apart.

hidden = (visible < 0.8).sum(axis=1) >= 2
if args.colors == "random":  # two of nearly one color
    color = scenes.table["color"].astype(int)
    gap = np.abs(color[:, :, None] - color[:, None]).sum(axis=-1) + 999 * np.eye(4, dtype=int)
    hidden &= gap.min(axis=(1, 2)) < 60
i = int(np.flatnonzero(hidden)[0]) if hidden.any() else 0
print(
    f"shown: scene {i}, ARI-FG "
    f"{metrics.adjusted_rand_index(scenes.labels[[i]], parts.labels[[i]])[0]:.2f}"
)
figure = plt.figure(figsize=(8.2, 5.4), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 6])
ax = left.subplots()
ax.imshow(scenes.images[i], interpolation="nearest")
ax.set_title("scene", fontsize=8)
ax.axis("off")
steps(right.subplots(5, 6), scenes.images[i], parts, i, names)
finish(figure, "econ_fig4", args)
