"""
Fig. 3: independent layers collapse, as noise of their inputs adds variance
===========================================================================

A layer sees the one before it as an input with noise. To first order in the variance of the noise
the variance of the output grows by (mu')^2 + (sigma^2)'' / 2 times that, of which only the second
term can be negative ('Compositional uncertainty in deep Gaussian processes', UAI 2020, section 3.2
and Fig. 3; its (11) has no factor 1/2). A, B: sigma^2 and its second derivative for M inducing
points, and how negative that gets. Not in the paper's figure are C, its counterexample, and D, the
control of its section 3.2: with noise in the observations, independent layers stay open.

What must be seen: with more points (sigma^2)'' is hardly negative anywhere (A, B), so that noise
adds variance, and to fit data without noise, layers must have none. With a single point, farther
than lengthscale / sqrt(2) away, noise lowers the variance (C). With more noise in the observations
a factorized posterior has layers that are more open, none of which knows of another (D).

Measured: the least (sigma^2)'' is -1.7 with 4 points, -0.022 with 10, -3e-5 with 16. The slope of
the variance in closed form, by the formula with 1/2, and as printed: 0.749, 0.749 and 1.5 at a
distance of 0.3 lengthscales, -0.368, -0.368 and -0.736 at 1; its sign changes at 0.71. From noise
of 0.01 to 1, Var f1(0) of the factorized posterior grows from 9e-7 to 0.02. Its total correlation
is 0, and by shuffled layers it loses 0 nats, to within 0.7 of sampling error; the chain loses 673
at noise of 0.01, and 3.5 at 1.
"""

# %%
# A and B: sigma^2 and its second derivative within 3 lengthscales, given values at M points without
# noise, evenly spread over it.

import matplotlib.pyplot as plt
import numpy as np
from compositions import data, model
from gp_figures import arguments, finish, letter, table

from fastvis.gp import (
    Gaussian,
    SquaredExponential,
    noisy_input_variance,
    noisy_input_variance_slope,
    variance_beside_one_point,
)

args = arguments()
x = np.linspace(-3, 3, 1201)


def curvature(x, m):
    """sigma^2 at x and its second derivative, both (n,), lengthscale and prior variance 1."""
    z = np.linspace(-3, 3, m)
    difference = x[:, None] - z
    k = SquaredExponential()(x, z)
    lower = np.linalg.cholesky(SquaredExponential()(z))
    derivatives = k, -difference * k, (difference**2 - 1) * k
    none, first, second = (np.linalg.solve(lower, d.T) for d in derivatives)
    return 1 - (none**2).sum(axis=0), -2 * (first**2 + none * second).sum(axis=0)


counts = np.arange(2, 17)
minima = np.array([curvature(x, m)[1].min() for m in counts])
maxima = np.array([curvature(x, m)[0].max() for m in counts])
columns = zip(counts.tolist(), maxima.tolist(), minima.tolist())
rows = [list(row) for row in columns if row[0] < 5 or row[0] % 2 == 0]
table(["inducing points", "largest sigma^2", "least (sigma^2)''"], rows)

# %%
# C: a process that is 0 at a single point. The variance of its output at a noisy input, in closed
# form, falls at first where the input is farther from the point than lengthscale / sqrt(2).

distances = np.array([0.3, 0.5, 1 / np.sqrt(2), 1.0, 1.5])
noise_variance = np.linspace(0, 0.5, 26)
closed = variance_beside_one_point(distances[:, None], noise_variance)


def beside(points):
    return np.zeros(len(points)), 1 - np.exp(-(points**2))


dots = slice(5, None, 5)
quadrature = [noisy_input_variance(beside, distances, s) for s in noise_variance[dots] ** 0.5]
quadrature = np.transpose(quadrature)
error = np.abs(closed[:, dots] - quadrature).max()
print(f"closed form and quadrature differ by {error:.1g} at most")
corrected = noisy_input_variance_slope(beside, distances, step=1e-3)
step = 1e-6
exact = (variance_beside_one_point(distances, step) - closed[:, 0]) / step
rows = [
    [f"{d:.3f}", *map(float, values)]
    for d, *values in zip(distances, exact, corrected.round(9) + 0.0, 2 * corrected.round(9) + 0.0)
]
table(["distance", "slope, closed form", "with 1/2", "(11) as printed"], rows)

fine = np.linspace(0.01, 2.5, 250)
slope = (variance_beside_one_point(fine, step) - variance_beside_one_point(fine, 0)) / step
turn = fine[np.flatnonzero(slope < 0)[0]]
print(f"the slope turns negative at {turn:.2f} lengthscales; 1 / sqrt(2) is {0.5**0.5:.3f}\n")

# %%
# D: the control. With much noise in the observations layers stay open though they are independent:
# what they hold is that noise, and they know nothing of each other. Hyperparameters stay as they
# are, so that priors are the same for all noise.

inputs, _ = data()
noises = (0.01, 0.03, 0.1, 0.3, 1.0)
control = {}
rows = []
for posterior in ("factorized", "chain"):
    for noise in noises:
        y = np.sin(7 * np.exp(inputs)) + noise * np.random.default_rng(1).standard_normal(50)
        deep = model(posterior, 0, frozen=("hyperparameters",), n_steps=1000)
        deep.set_params(likelihood=Gaussian(noise**2)).fit(inputs, y)
        one, two = (float(v[0, 0]) for v in deep.layer_variance(np.zeros(1), rng=0))
        of_output = float(deep.predict(inputs, 1000, rng=0).variance.mean()) - noise**2
        coupling = deep.coupling(inputs, y, 500, rng=0)
        known = round(coupling.total_correlation, 6), coupling.shuffle
        control[posterior, noise] = one, two, of_output, *known
        rows.append([posterior, noise, one, two, of_output, *known])
header = ["posterior", "noise", "Var f1(0)", "Var f2(0)", "of the output"]
table([*header, "total correlation", "shuffle"], rows)

# %%
figure, axes = plt.subplots(2, 3, figsize=(12, 6.8), layout="constrained")
shades = plt.colormaps["viridis"](np.linspace(0, 0.9, 5))
for m, color in zip((2, 3, 4, 6, 10), shades):
    for ax, values in zip((axes[0, 0], axes[1, 0]), curvature(x, m)):
        ax.plot(x, values, color=color, label=f"M = {m}")
axes[0, 0].set(ylabel="$\\sigma^2$", title="variance")
axes[1, 0].set(ylabel="$(\\sigma^2)''$", title="its second derivative")
axes[1, 0].axhline(0, color="0.5", linewidth=0.8)
axes[1, 0].set_xlabel("input, lengthscales from the middle")
axes[0, 0].legend(fontsize=8, ncols=2, loc="upper right")
axes[0, 0].set_ylim(0, 1.35)

axes[0, 1].semilogy(counts, -minima, "o-", color="C0")
axes[0, 1].set(xlabel="inducing points M", ylabel="$-\\min\\ (\\sigma^2)''$")
axes[0, 1].set_title("how negative it gets")
axes[0, 1].set_xticks(counts[::2])

for i, d in enumerate(distances):
    ax, color = axes[1, 1], f"C{i}"
    name = "1/$\\sqrt{2}$" if i == 2 else f"{d:g}"
    ax.plot(noise_variance, closed[i], color=color, label=f"d = {name}")
    ax.plot(noise_variance[dots], quadrature[i], "o", color=color, markersize=4)
    near = np.array([0, 0.12])
    for factor, style in ((1, "--"), (2, ":")):
        line = closed[i, 0] + factor * corrected[i] * near
        ax.plot(near, line, style, color="black", linewidth=1.1, zorder=3)
ax.set(xlabel="variance of the input", ylabel="variance of the output", ylim=(0, 1.4))
ax.plot([], [], "--", color="black", linewidth=1.1, label="with 1/2")
ax.plot([], [], ":", color="black", linewidth=1.1, label="(11) as printed")
ax.plot([], [], "o", color="0.4", markersize=4, label="quadrature")
ax.set_title("one point with u = 0, at distance d")
ax.legend(fontsize=7, ncols=3, loc="upper center")

numbers = {p: np.array([control[p, noise] for noise in noises]) for p in ("factorized", "chain")}
ax = axes[0, 2]
for posterior, style in (("factorized", "-"), ("chain", "--")):
    for column, name in enumerate(("$f_1(0)$", "$f_2(0)$", "output")):
        values, name = numbers[posterior][:, column], name if style == "-" else None
        ax.loglog(noises, values, style, marker="o", color=f"C{column}", label=name)
ax.loglog(noises, np.square(noises), ":", color="0.4", label="noise")
ax.plot([], [], "k-", label="factorized")
ax.plot([], [], "k--", label="chain")
ax.set(ylabel="variance")
ax.set_title("layers, by noise of the data")
ax.legend(fontsize=7, ncols=2)
ax = axes[1, 2]
for posterior, style, color in (("factorized", "-", "C0"), ("chain", "--", "C3")):
    ax.semilogx(noises, numbers[posterior][:, 4], style, marker="o", color=color, label=posterior)
ax.set_yscale("symlog", linthresh=1)
ax.set(xlabel="standard deviation of the noise", ylabel="log-likelihood lost, nats")
ax.set_title("when layers are shuffled")
ax.legend(fontsize=8)
for ax, text in zip(axes.T.ravel(), ("A", "", "B", "C", "D", "")):
    letter(ax, text)
    ax.title.set_fontsize(10)
finish(figure, "fig3_noisy_inputs", args)
