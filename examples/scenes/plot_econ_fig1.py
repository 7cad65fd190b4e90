"""
Fig. 1: ECON takes scenes apart, and puts new ones together
===========================================================

A model of three classes and a background, which it was not told, on scenes in which classes differ
in color. A: scenes, and the layers that the model finds in them, from front to back. B: samples of
each expert. C: new scenes of these samples: one object of each class, as in the training, three
objects of any class, and four (von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, Fig. 1).

What must be seen: A, each layer is one object or the background, whole where others hide it. B, an
expert paints one class, at different places, or backgrounds of different colors. C, objects cover
each other as wholes, in numbers and orders that no scene of the training had.

Printed are the measures for A on 500 new scenes; for B and C, how often an object that was asked
for is of its class, judged by its outline and by its color, and the share of scenes of the first
kind that are as those of the training. Both with latents from the prior, as in the paper, and from
a Gaussian like that of latents that the experts find in images. The picture shows these, or with
``--latents prior`` those.
"""

# %%
# The model is trained where there is none: at most ten minutes with the preset for a CPU.

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, on_gray, panel_letter, row, table
from econ_models import (
    BACKGROUND,
    CLASSES,
    arguments,
    class_experts,
    evaluate,
    expert_names,
    load,
    make_scenes,
)
from econ_shapes import generate, recombine

args = arguments()
model = load(args)
scenes = make_scenes(500, args)
scores, parts = evaluate(model, scenes)
names = expert_names(parts, scenes, model.n_experts)
experts = class_experts(parts, scenes)

measures = ("ari_fg", "ari", "covering", "order", "nmi", "amodal", "mse")
table(["A", *measures], [["500 scenes", *(scores[name] for name in measures)]])
table(
    ["expert", "explains most", "in how many scenes"],
    [[str(k), names[k], scores["share"][k]] for k in range(model.n_experts)],
)

# %%
# B and C. What was painted is compared with drawings of circles, squares and triangles.

ways = {"prior": None, "images": scenes.images[:200]}
rows = []
for way, like in ways.items():
    asked = recombine(model, scenes, parts, like=like)
    new = generate(model, scenes, parts, like=like)
    rows.append([f"latents: {way}", asked["shape"], asked["clean"], asked["color"], asked["iou"]])
    rows[-1] += [new["coherent"], new["true"]]
header = ["asked for", "class by shape", "with IoU 0.8", "by color", "median IoU"]
table([*header, "like training", "(true scenes)"], rows)
table(["asked for, seen as", *CLASSES], [[c, *r] for c, r in zip(CLASSES, asked["confusion"])])

# %%

like, n_shown = ways[args.latents], 8
figure = plt.figure(figsize=(7.6, 11.4), layout="constrained")
a, b, c = figure.subfigures(3, 1, height_ratios=[6, 4, 3])

axes = a.subplots(6, n_shown)
row(axes[0], scenes.images[:n_shown] / 255, "scene")
for t in range(4):
    layers = on_gray(parts.appearance[:n_shown, t], parts.shape[:n_shown, t])
    row(axes[t + 1], layers, f"layer {t + 1}", [names[k] for k in parts.winner[:n_shown, t]])
row(axes[5], parts.image[:n_shown].clip(0, 1), "all layers")
panel_letter(a, "A")

axes = b.subplots(model.n_experts, n_shown)
for k in range(model.n_experts):
    sampled = model.sample([experts[BACKGROUND], k], n=n_shown, rng=k, like=like)
    whole = k == experts[BACKGROUND]
    masks = np.ones_like(sampled.shapes[:, 1]) if whole else sampled.shapes[:, 1]
    row(axes[k], on_gray(sampled.appearances[:, 1], masks), names[k])
panel_letter(b, "B")

rng = np.random.default_rng(0)
axes = c.subplots(3, n_shown)
kinds = {
    "one of each": np.array([rng.permutation(3) for _ in range(n_shown)]),
    "three of any": rng.integers(3, size=(n_shown, 3)),
    "four of any": rng.integers(3, size=(n_shown, 4)),
}
for ax, (label, classes) in zip(axes, kinds.items()):
    back = np.full((n_shown, 1), experts[BACKGROUND])
    layers = np.concatenate([back, experts[classes]], axis=1)
    row(ax, model.sample(layers, rng=1, like=like).image, label)
panel_letter(c, "C")
finish(figure, "econ_fig1", args)
