"""
When to stop: similarity against variability
============================================

"The stopping criterion of the optimization algorithm can be adjusted to trade perceptual
similarity for larger variability" (Ustyuzhaninov et al., ICLR 2017, section 7): a texture model is
a distance together with a bound below which images count as the same texture. Here the bound is
the loss at which the synthesis stops.

What must be seen: as the bound falls, the held-out error falls, and so does the diversity of four
samples; below some bound diversity hardly changes any more, and what is left of it stays.

Measured for brick at 96 pixels: from a bound of 0.1 to one of 0.0003 the error falls from 0.15 to
0.0047, the diversity from 0.90 to 0.57, most of it before 0.003.
"""

# %%
# Stopping at a loss gives the first iterate at or below it (``target_loss`` of
# `fastvis.textures.synthesize`), so that one run, watched, stands for all bounds.

import matplotlib.pyplot as plt
import numpy as np
from common import arguments, finish, heldout, photograph, random_model, table

from fastvis.textures import metrics, synthesize

args = arguments()
size, n_maps, max_iter = (256, 128, 2000) if args.full else (96, 32, 400)
name = "brick"
bounds = 10.0 ** -np.arange(0, 4.5, 0.5)

reference = photograph(name, size)
model = random_model(n_maps)


def stops(seed):
    """The first image at or below each bound; fewer where the run does not get there."""
    images = []

    def watch(iteration, loss, image):
        while len(images) < len(bounds) and loss <= bounds[len(images)]:
            images.append(image)
        return len(images) == len(bounds)

    result = synthesize(reference, model, max_iter=max_iter, rng=seed, callback=watch)
    print(f"seed {seed}: loss {result.loss:.2g} after {result.n_iter} iterations", flush=True)
    return images


runs = [stops(seed) for seed in range(4)]
bounds = bounds[: min(map(len, runs))]

# %%
# Held-out error: the relative error (5) of the Gram matrix of random filters that the synthesis did
# not match. Diversity: 1 minus the largest correlation of two samples over all shifts.

errors = [float(np.mean([heldout(run[k], reference) for run in runs])) for k in range(len(bounds))]
diversity = [metrics.diversity([run[k] for run in runs]) for k in range(len(bounds))]
table(["stopping loss", "held-out error", "diversity"], list(zip(bounds, errors, diversity)))

# %%
shown = range(0, len(bounds), 2)
figure = plt.figure(figsize=(8, 4.6), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
cells = top.subplots(1, len(shown) + 1)
for ax, image, label in zip(
    cells, [runs[0][k] for k in shown] + [reference], [f"{bounds[k]:.2g}" for k in shown] + [name]
):
    ax.imshow(image, vmin=0, vmax=1)
    ax.set_title(label, fontsize=8)
    ax.axis("off")
ax = bottom.subplots()
ax.loglog(bounds, errors, "o-", color="C0")
ax.set(xlabel="stopping loss (5)", xlim=(2 * bounds[0], bounds[-1] / 2))
ax.set_ylabel("held-out error", color="C0")
right = ax.twinx()
right.plot(bounds, diversity, "s-", color="C1")
right.set_ylabel("diversity of four samples", color="C1")
right.set_ylim(0, 1)
finish(figure, "stopping", args)
