"""
Fig. 6: what experts are experts of
===================================

Scenes, and samples of each expert, one expert a row. In the paper objects have random colors, so
that experts can only come to differ by the shapes of objects: ``--colors random`` (von Kügelgen,
Ustyuzhaninov et al., ICLR 2020 workshop, Fig. 6).

What must be seen: an expert of backgrounds, and others, each of mostly one class, at all places
and, with random colors, in all colors. The paper's own experts of squares and of circles confuse
these now and then.

Printed is, for each expert, of which class its samples are, by their outlines, and how often the
expert explains objects of each class in 500 new scenes.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, on_gray, row, table
from econ_models import (
    BACKGROUND,
    CLASSES,
    arguments,
    class_experts,
    evaluate,
    expert_names,
    experts_and_classes,
    load,
    make_scenes,
)
from econ_shapes import CLEAN, classify

args = arguments()
model = load(args)
scenes = make_scenes(500, args)
scores, parts = evaluate(model, scenes)
names = expert_names(parts, scenes, model.n_experts)
background = class_experts(parts, scenes)[BACKGROUND]
experts, classes = experts_and_classes(parts, scenes)

rows = []
for k in range(model.n_experts):
    counts = [int(((experts == k) & (classes == c)).sum()) for c in range(4)]
    rows.append([f"{k}: {names[k]}", *counts])
print(f"expert-class NMI {scores['nmi']:.2f}")
table(["explains", *CLASSES, "background"], rows)

# %%
# Samples, of latents of the prior and as found in images. "Other" fits nothing with an IoU of 0.8.

ways = {"prior": None, "images": scenes.images[:200]}
samples, rows = {}, []
for k in range(model.n_experts):
    for way, like in ways.items():
        new = model.sample([background, k], n=200, rng=k, like=like)
        samples[way, k] = new
        if k == background:
            continue
        kinds, ious = classify(new.shapes[:, 1])
        kinds = np.where(kinds < 0, 4, np.where(ious < CLEAN, 3, kinds))
        shares = (np.bincount(kinds, minlength=5) / len(kinds)).tolist()
        rows.append([f"{k}: {names[k]}, latents: {way}", *shares])
table(["samples", *CLASSES, "other", "empty"], rows)

# %%

n_shown = 10
figure = plt.figure(figsize=(8.6, 5.4), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1, model.n_experts])
row(top.subplots(1, n_shown), scenes.images[:n_shown] / 255, "scenes")
for k, axes in enumerate(bottom.subplots(model.n_experts, n_shown)):
    new = samples[args.latents, k]
    masks = np.ones_like(new.shapes[:, 1]) if k == background else new.shapes[:, 1]
    row(axes, on_gray(new.appearances[:n_shown, 1], masks[:n_shown]), names[k])
finish(figure, "econ_fig6", args)
