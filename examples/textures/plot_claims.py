"""
What a texture model needs: four claims, measured
=================================================

What Ustyuzhaninov, Brendel, Gatys and Bethge ("What does it take to generate natural textures?",
ICLR 2017) found: filters of several sizes, a nonlinearity, whichever it is, and many filters. Each
as a number: the held-out error of a sample, which is the relative error (5) of the Gram matrix of
random filters that the synthesis did not match.

What must be seen: filters of one size, as many, are clearly worse; without a nonlinearity the
error is many times larger; a sigmoid is about as good as the ReLU; more filters are better.
"""

# %%
# Two samples of each of three textures. How good a sample gets depends on the noise that it starts
# from, because the optimizer can end in a local minimum: hence geometric means.

import matplotlib.pyplot as plt
import numpy as np
from common import arguments, finish, grow, heldout, photograph, random_model, table

args = arguments()
size, n_maps, max_iter = (256, 128, 2000) if args.full else (96, 16, 300)

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
errors = {label: np.empty((len(names), 2)) for label in models}
for i, name in enumerate(names):
    reference = photograph(name, size)
    for label, model in models.items():
        for seed in (0, 1):
            image = grow(f"{name}, {label}", reference, model, max_iter=max_iter, rng=seed)
            errors[label][i, seed] = heldout(image, reference)

# %%
means = {label: np.exp(np.log(error).mean(axis=1)) for label, error in errors.items()}
ratios = {label: np.exp(np.log(m / means[baseline]).mean()) for label, m in means.items()}
table(
    ["held-out error", *names, "over the first"],
    [[label, *map(float, means[label]), float(ratios[label])] for label in models],
)

# %%
figure, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for i, name in enumerate(names):
    for seed in (0, 1):
        points = [errors[label][i, seed] for label in models]
        ax.semilogx(points, range(len(models)), "os^"[i], color=f"C{i}", label="_" * seed + name)
ax.set_yticks(range(len(models)), models)
ax.invert_yaxis()
ax.set_xlabel("held-out error")
ax.grid(axis="y", alpha=0.3)
ax.legend(fontsize=8)
finish(figure, "claims", args)
