"""
Fig. 8: scenes that are not as those of the training
====================================================

A model trained on scenes of three objects, one of each class, takes apart: five objects; objects of
one class that cover each other; an object nearly of the background's color; and, which the paper
says but does not show, scenes without an object of some class. There is always a step more than
needed, which must stay empty (von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop, Fig. 8, and
thesis, section 4.2). In the paper objects have random colors: ``--colors random``.

What must be seen: one object a step, and nothing in the last. Where classes differ in color, two
objects of one class that touch have no edge between them: only their outline tells.

Printed are measures for 200 scenes of each kind, and the share of pixels in steps after that of the
background; for a class without an object, how often its expert explains something, and how much.
"""

# %%
# All kinds of scenes: of each object a fifth can be seen at least.

import matplotlib.pyplot as plt
import numpy as np
from econ_figures import finish, row, show, table
from econ_models import (
    BACKGROUND,
    CLASSES,
    arguments,
    class_experts,
    evaluate,
    expert_names,
    load,
    make_scenes,
    palette,
    repaint,
    seen,
)

args = arguments()
model = load(args)
n = 200


def same_class(scenes):
    """Scenes in which two objects of one class cover each other."""
    kind = scenes.table["shape"]
    return scenes[(scenes.occlusion() & (kind[:, :, None] == kind[:, None])).any(axis=(1, 2))]


def faint(scenes, contrast):
    """One object of each scene, of a random class, is nearly of the background's color."""
    colors = palette(scenes)
    rows = np.arange(len(scenes))
    k = 1 + np.random.default_rng(0).integers(3, size=len(scenes))
    colors[rows, k] = contrast * colors[rows, k] + (1 - contrast) * colors[:, 0]
    return repaint(scenes, colors)


usual = seen(make_scenes(3 * n, args))[:n]
four = seen(make_scenes(20 * n, args, rng=12, n_objects=4))
kinds = {
    "as in the training": usual,
    "five objects": seen(make_scenes(20 * n, args, rng=11, n_objects=5))[:n],
    "same class, covering": same_class(four)[:n],
    "faint object, contrast 0.5": faint(usual, 0.5),
    "faint object, contrast 0.25": faint(usual, 0.25),
}
for missing, name in enumerate(CLASSES):
    others = [kind for k, kind in enumerate(CLASSES) if k != missing]
    kinds[f"no {name}"] = seen(make_scenes(3 * n, args, rng=13, shapes=others))[:n]
    # The classes of these scenes are numbered anew.
    shape = kinds[f"no {name}"].table["shape"]
    kinds[f"no {name}"].table["shape"] = np.array([k for k in range(3) if k != missing])[shape]

# %%
# As many steps as objects, one for the background, and a spare one.

measures = ("ari_fg", "ari", "covering", "order", "nmi", "amodal", "spare")
rows, all_parts = [], {}
for name, scenes in kinds.items():
    n_steps = scenes.order.shape[1] + 2
    scores, all_parts[name] = evaluate(model, scenes, n_steps)
    rows.append([name, len(scenes), n_steps, *(scores[measure] for measure in measures)])
table(["scenes", "n", "steps", *measures], rows)

experts = class_experts(all_parts["as in the training"], usual)
rows = []
for missing, name in enumerate(CLASSES):
    parts = all_parts[f"no {name}"]
    taken = (parts.region * (parts.winner == experts[missing])[:, :, None, None]).sum(axis=1)
    taken = taken.mean(axis=(1, 2))
    distinct = "" if experts[missing] != experts[BACKGROUND] else " (the background's expert too)"
    rows.append([f"{name}{distinct}", float((taken > 0.005).mean()), float(taken.mean())])
table(["class without an object", "its expert explains something", "share of pixels"], rows)

# %%
# Of each kind the first scene; layers are shown where their regions are, and below whole.

names = expert_names(all_parts["as in the training"], usual, model.n_experts)
shown = list(kinds)[1:4] + [f"no {CLASSES[0]}"]
figure = plt.figure(figsize=(8.4, 10.4), layout="constrained")
for letter, name, panel in zip("abcd", shown, figure.subfigures(len(shown), 1)):
    scenes, parts = kinds[name], all_parts[name]
    axes = panel.subplots(3, 8)
    panel.suptitle(f"{letter}  {name}", x=0.015, ha="left", fontsize=9, fontweight="bold")
    show(axes[0, 0], scenes.images[0] / 255, "", "scene")
    show(axes[1, 0], parts.image[0].clip(0, 1), label="layers")
    axes[2, 0].axis("off")
    titles = [f"{t + 1}: {names[k]}" for t, k in enumerate(parts.winner[0])]
    row(axes[0, 1:], parts.region[0], "region", titles)
    row(axes[1, 1:], parts.appearance[0] * parts.region[0][..., None], "$r_t x_t$")
    row(axes[2, 1:], parts.shape[0], "shape")
finish(figure, "econ_fig8", args)
