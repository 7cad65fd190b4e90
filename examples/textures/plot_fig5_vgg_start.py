"""
Fig. 5: VGG synthesis that starts from a random-filter sample
=============================================================

Columns: a photograph; VGG's synthesis from noise; the multi-scale model's; and VGG's synthesis
that starts from the latter (Ustyuzhaninov et al., ICLR 2017, appendix, Fig. 5). Below each sample
the VGG loss (7).

What must be seen, given ``--weights``: the start from the multi-scale sample ends at a lower loss
than the start from noise, in the paper by up to two orders of magnitude. It is printed for each
texture. Without weights the script runs with a small VGG of RANDOM weights, so that it can be
tried: that says nothing about VGG-19 (the start from the sample ends 2.5 times lower for brick, 3
times for the gland, and 1.2 times higher for gravel).
"""

# %%
import numpy as np
from common import arguments, finish, grid, grow, photograph, random_model, table

from fastvis.textures import VGGLoss

args = arguments()
size, n_maps, max_iter = (256, 128, 2000) if args.full else (96, 16, 200)


def random_vgg(n_maps=(16, 24, 32, 48, 48), rng=0):
    """VGG-19's topology with few channels and random weights (He et al.)."""
    rng = np.random.default_rng(rng)
    stages = {0: 0, 2: 0, 5: 1, 7: 1, 10: 2, 12: 2, 14: 2, 16: 2, 19: 3, 21: 3, 23: 3, 25: 3, 28: 4}
    weights, n_in = {}, 3
    for index, stage in stages.items():
        n_out = n_maps[stage]
        weights[f"features.{index}.weight"] = rng.normal(
            0, np.sqrt(2 / (9 * n_in)), (n_out, n_in, 3, 3)
        ).astype(np.float32)
        weights[f"features.{index}.bias"] = np.zeros(n_out, np.float32)
        n_in = n_out
    return VGGLoss(weights)


vgg = random_vgg() if args.vgg is None else args.vgg
label = "random VGG" if args.vgg is None else "VGG-19"
if args.vgg is None:
    print("No --weights: the VGG here has few channels and RANDOM weights. It is not VGG-19.\n")

# %%
names = ("brick", "gravel", "gland")
rows, measured = [], []
for name in names:
    reference = photograph(name, size)
    multi = grow(f"{name}, multi-scale", reference, random_model(n_maps), max_iter=max_iter)
    noise = grow(f"{name}, {label} from noise", reference, vgg, max_iter=max_iter)
    both = grow(f"{name}, from multi-scale", reference, vgg, init=multi, max_iter=max_iter)
    losses = [vgg(image, reference) for image in (noise, multi, both)]
    rows.append([reference, *((im, f"{e:.1e}") for im, e in zip((noise, multi, both), losses))])
    measured.append([name, *losses, losses[0] / losses[2]])

# %%
columns = [f"{label} from noise", "multi-scale", f"{label} from it"]
table(["loss (7)", *columns, "first over last"], measured)
title = None if args.vgg else "This VGG has few channels and RANDOM weights: it is not VGG-19"
figure = grid(rows, names, ["reference", *columns], inches=1.5, title=title)
finish(figure, "fig5_vgg_start", args)
