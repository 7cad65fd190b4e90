"""
Fig. 7: new scenes, layer by layer
==================================

A background is sampled first, and then objects, one a row, each from an expert of objects that is
drawn at random: columns are scenes that fill up (von Kügelgen, Ustyuzhaninov et al., ICLR 2020
workshop, Fig. 7). In the paper objects have random colors: ``--colors random``.

What must be seen: each row adds one whole object in front of what was there, up to more than any
scene of the training had, and changes nothing else.

Printed is how many of the added objects are of the class that was drawn, and how much of the
picture changed outside of the new shape (nothing may).
"""

# %%

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, row, table
from econ_models import BACKGROUND, arguments, class_experts, evaluate, load, make_scenes
from econ_shapes import CLEAN, classify

from fastvis.scenes import composite

args = arguments()
model = load(args)
scenes = make_scenes(300, args)
_, parts = evaluate(model, scenes)
experts = class_experts(parts, scenes)
like = scenes.images[:200] if args.latents == "images" else None

n_objects, n_shown, n = 5, 8, 100
rng = np.random.default_rng(0)
classes = rng.integers(3, size=(n, n_objects))
layers = np.concatenate([np.full((n, 1), experts[BACKGROUND]), experts[classes]], axis=1)
sampled = model.sample(layers, rng=rng, like=like)

# %%
# What a scene is with its first layers only.

images = [
    composite(sampled.shapes[:, : t + 1], sampled.appearances[:, : t + 1]).image
    for t in range(n_objects + 1)
]
rows = []
for t in range(1, n_objects + 1):
    kinds, ious = classify(sampled.shapes[:, t])
    right = kinds == classes[:, t - 1]
    outside = ~sampled.shapes[:, t]
    changed = float(abs(images[t] - images[t - 1])[outside].max())
    rows.append([f"object {t}", float(right.mean()), float((right & (ious >= CLEAN)).mean())])
    rows[-1].append(changed)
table([f"{n} scenes", "class that was drawn", "with IoU 0.8", "change outside"], rows)

# %%

figure, axes = plt.subplots(n_objects + 1, n_shown, figsize=(7.2, 5.6), layout="constrained")
for t, ax in enumerate(axes):
    row(ax, images[t][:n_shown], "background" if t == 0 else f"+ object {t}")
finish(figure, "econ_fig7", args)
