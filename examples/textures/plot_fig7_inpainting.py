"""
Fig. 7: inpainting inside a frame
=================================

The inside of a patch of texture is thrown away and grown again from noise so that the Gram matrix
matches; a frame of 10, 15 or 20 % of the width keeps its pixels (Ustyuzhaninov et al., ICLR 2017,
appendix, Fig. 7). The Gram matrix is that of the patch that the frame was cut from ("regular"), or
the mean over 500 random patches of the larger photograph ("estimate"). With ``--weights`` VGG-19
does the same.

The paper does not say whether the frame is only where the synthesis starts, or held: here it is
held.

What must be seen: the inside continues the frame, so that mortar lines and stones are not cut off
at its border. Measured with 8 x 32 filters at 96 pixels: losses of 2e-5 (brick) and 8e-5 (gravel)
with the patch's own Gram matrix; 4e-4 and 1e-4 with the mean over patches, which no frame of one
patch can match. Mortar lines go on in all, but bend in the latter.
"""

# %%
import numpy as np
from common import arguments, finish, grid, heldout, photograph, random_model, table

from fastvis.textures import frame_mask, inpaint

args = arguments()
size, n_maps, max_iter = (128, 128, 2000) if args.full else (96, 32, 250)
widths = (0.10, 0.15, 0.20)

models = {"multi-scale": random_model(n_maps)}
if args.vgg is not None:
    models["VGG-19"] = args.vgg

# %%
# ``statistics="patches"`` takes the mean Gram matrix of random patches of ``reference``.

blocks, measured = [], []
for name in ("brick", "gravel"):
    larger = photograph(name)
    patch = larger[80 : 80 + size, 80 : 80 + size]
    masks = [frame_mask(size, width) for width in widths]
    block = [[(patch, name), *(np.where(mask[:, :, None], 0.5, patch) for mask in masks)]]
    for kind, model in models.items():
        statistics = {
            "regular": {},
            "estimate": {"reference": larger, "statistics": "patches", "n_patches": 500},
        }
        for label, options in statistics.items():
            block.append([None])
            for width, mask in zip(widths, masks):
                result = inpaint(patch, mask, model, max_iter=max_iter, rng=1, **options)
                error = heldout(result.image, larger)
                block[-1].append((result.image, f"{error:.1e}"))
                measured.append([f"{name}, {kind}, {label}", f"{width:.0%}", result.loss, error])
                print(*measured[-1], flush=True)
    blocks.append(block)

# %%
# Below each filled patch its held-out error: the relative error (5), to the larger photograph, of
# the Gram matrix of random filters that were not matched.

print()
table(["", "frame", "loss", "held-out error"], measured)
rows = [left + right for left, right in zip(*blocks)]
kinds = [f"{kind}\n{label}" for kind in models for label in ("regular", "estimate")]
columns = ["patch", *(f"frame {width:.0%}" for width in widths)] * 2
finish(grid(rows, ["", *kinds], columns, inches=1.1), "fig7_inpainting", args)
