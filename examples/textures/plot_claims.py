"""
What a texture model needs: four claims, measured
=================================================

What Ustyuzhaninov, Brendel, Gatys and Bethge ("What does it take to generate natural textures?",
ICLR 2017) found: filters of several sizes, a nonlinearity, whichever it is, and many filters. Each
as a number: the held-out error of a sample, which is the relative error (5) of the Gram matrix of
random filters that the synthesis did not match.

What must be seen: filters of one size, as many, are clearly worse; without a nonlinearity the
error is many times larger; a sigmoid is about as good as the ReLU; more filters are better.

Measured at 96 pixels with 8 x 16 filters, held-out errors relative to theirs (geometric mean over
brick, gravel and grass): one size 2.6; linear 19; sigmoid 0.76, given four times the iterations
(1.5 with as many); a quarter of the filters 10; twice as many 0.81.
"""

# %%
# Two samples of each of three textures. How good a sample gets depends on the noise that it starts
# from, because the optimizer can end in a local minimum: hence geometric means.

import numpy as np
from common import arguments, finish, grid, grow, heldout, photograph, random_model, table

args = arguments()
size, n_maps, max_iter = (256, 128, 2000) if args.full else (96, 16, 300)
slower = {"sigmoid": 4}  # times as many iterations: its loss is small early, but far from its end

baseline = f"8 sizes x {n_maps}, ReLU"
models = {
    baseline: random_model(n_maps),
    f"one size, 11 px x {8 * n_maps}": random_model(8 * n_maps, 11),
    "linear": random_model(n_maps, nonlinearity="linear"),
    "sigmoid": random_model(n_maps, nonlinearity="sigmoid"),
    f"8 sizes x {n_maps // 4}": random_model(n_maps // 4),
    f"8 sizes x {n_maps * 2}": random_model(n_maps * 2),
}
names = ("brick", "gravel", "grass")
rows = []
errors = {label: [] for label in models}
for name in names:
    reference = photograph(name, size)
    rows.append([reference])
    for label, model in models.items():
        n_iter = max_iter * slower.get(label, 1)
        samples = [
            grow(f"{name}, {label}", reference, model, max_iter=n_iter, rng=seed) for seed in (0, 1)
        ]
        error = float(np.sqrt(np.prod([heldout(image, reference) for image in samples])))
        errors[label].append(error)
        rows[-1].append((samples[0], f"{error:.1e}"))

# %%
# The last column: the geometric mean over textures, relative to the first model.

ratios = [float(np.exp(np.mean(np.log(errors[x]) - np.log(errors[baseline])))) for x in models]
table(
    ["held-out error", *names, "over the first"],
    [[label, *errors[label], ratio] for label, ratio in zip(models, ratios)],
)
columns = ["reference", *(label.replace(", ", "\n") for label in models)]
finish(grid(rows, names, columns, inches=1.1), "claims", args)
