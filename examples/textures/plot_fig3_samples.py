"""
Fig. 3: samples of one texture differ
=====================================

Each row: a photograph, and three textures grown from different noise by the same multi-scale
model (Ustyuzhaninov et al., ICLR 2017, Fig. 3).

What must be seen: the samples look like the photograph's texture, and no two are alike, nor a
copy of the photograph. Measured at 128 pixels with 8 x 32 filters: diversity 0.63 for brick, 0.92
for gravel, 0.75 for the gland; novelty 0.21, 0.69 and 0.53.
"""

# %%
# One call makes all samples of a texture, and measures how much they differ, whatever the shift
# between them: the diversity is 0 for copies.

import numpy as np
from common import arguments, finish, grid, heldout, photograph, random_model, table

from fastvis.textures import metrics, synthesize

args = arguments()
size, n_maps, max_iter = (256, 128, 2000) if args.full else (128, 32, 250)

model = random_model(n_maps)
names = ("brick", "gravel", "gland")
rows, measured = [], []
for name in names:
    reference = photograph(name, size)
    samples = synthesize(reference, model, n_samples=3, max_iter=max_iter, rng=1)
    rows.append([reference, *samples.images])
    errors = [heldout(image, reference) for image in samples.images]
    novelty = [metrics.novelty(image, reference) for image in samples.images]
    measured.append([name, samples.diversity, float(np.mean(novelty)), *errors])

# %%
# Held-out error: the relative error (5) of the Gram matrix of random filters that the synthesis
# did not match.

columns = ["reference", "sample 1", "sample 2", "sample 3"]
table(["texture", "diversity", "novelty", *(f"held-out error {i}" for i in (1, 2, 3))], measured)
figure = grid(rows, names, columns, inches=1.5)
finish(figure, "fig3_samples", args)
