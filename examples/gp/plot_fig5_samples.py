"""
Fig. 5: draws of the layers, and of their composition
=====================================================

Twenty-five draws of two layers, one squared exponential and one periodic, and of their composition,
fitted to 50 observations with three posteriors: factorized (DSVI), a chain of dependent layers, and
inducing points that are the next layer's locations ('Compositional uncertainty in deep Gaussian
processes', UAI 2020, Fig. 5). The paper's second row is a dense Gaussian over both layers: of two
layers, the chain is the same family.

What must be seen: the compositions fit, all alike. The layers of the factorized posterior, within
the data, collapse to one function; with locations f1 shifts, and f2 with it. So it is. The chain
stands between: it does not collapse, but what it has more than the factorized one is seen in the
last row, which is not in the paper, and hardly by eye: as in the paper's own numbers.

Measured, with seed 0, after 2,000 steps, and after the 10,000 of ``--full`` (150 s):

==================  =====  =========  =========
posterior, steps    ELBO   Var f1(0)  Var f2(0)
==================  =====  =========  =========
factorized, 2,000   -66.7  9.1e-7     9.5e-5
chain, 2,000        23.5   4.3e-5     1.3e-3
locations, 2,000    6.9    0.28       0.49
factorized, 10,000  -11.5  1.1e-6     1.2e-4
chain, 10,000       35.0   4.5e-5     2.5e-3
locations, 10,000   38.5   0.33       0.51
==================  =====  =========  =========

After 2,000 steps, draws of f1 in [-1, 1] deviate by 0.001, 0.007 and 0.55; those of the composition
miss the data, which have noise of 0.01, by 0.023, 0.014 and 0.016.
"""

# %%
# Training, and the numbers of Table 1; the paper's in brackets.

import time

import matplotlib.pyplot as plt
import numpy as np
from compositions import PAPER, data, model
from gp_figures import arguments, finish, table

args = arguments("train all steps, as for Table 1")
n_steps = None if args.full else 2000
names = {
    "factorized": "factorized (DSVI)",
    "chain": "chain of layers",
    "locations": "inducing points as locations",
}
x, y = data()
fitted, rows = {}, []
for posterior, name in names.items():
    start = time.process_time()
    deep = fitted[posterior] = model(posterior, 0, n_steps=n_steps).fit(x, y)
    seconds = time.process_time() - start
    elbo = deep.elbo(x, y, 2000, rng=0).value
    one, two = (float(v[0, 0]) for v in deep.layer_variance(np.zeros(1), rng=0))
    paper = PAPER["joint" if posterior == "chain" else posterior]
    cells = [f"{a:.3g} ({b:.3g})" for a, b in zip((elbo, one, two), paper)]
    rows.append([name, *cells, f"{seconds:.0f} s"])
table(["posterior", "ELBO", "Var f1(0)", "Var f2(0)", "training"], rows)

# %%
# Draws of whole functions, f1 and f2 on a grid, and the way of the data through both: 25 are shown,
# 200 give deviations.

grid = np.linspace(-2, 2, 121)
span = np.linspace(-1.3, 1.3, 79)
inside = np.abs(grid) <= 1
draws, deviations, at_data, rows = {}, {}, {}, []
for posterior, deep in fitted.items():
    z = deep.layers_[0].inducing.ravel()
    drawn = deep.sample_functions([grid, grid], 200, x=np.concatenate([span, x, z]), rng=1)
    hidden, output = (np.split(v[..., 0], [len(span), len(span) + len(x)], 1) for v in drawn.values)
    draws[posterior] = drawn.functions[0][..., 0], drawn.functions[1][..., 0], output[0]
    deviations[posterior] = [curves.std(axis=0) for curves in draws[posterior]]
    at_data[posterior] = hidden[1], hidden[2]
    one, two, _ = deviations[posterior]
    miss = float(np.sqrt(np.square(output[1] - y).mean()))
    outside = [float(d[[0, -1]].mean()) for d in (one, two)]
    rows.append([names[posterior], *(float(np.median(d[inside])) for d in (one, two))])
    rows[-1] += [*outside, miss]
header = ["deviation of draws", "f1, [-1, 1]", "f2, [-1, 1]", "f1, +-2", "f2, +-2"]
table([*header, "from the data"], rows)

# %%
# Gray: where the data are, or what f1 makes of them. Ticks at the bottom: inducing points; those of
# f2 in the third row belong to draws, and have their colors.

figure, axes = plt.subplots(
    4, 3, figsize=(11, 9.6), layout="constrained", sharex="col", height_ratios=[1, 1, 1, 0.8]
)
grids = grid, grid, span
colors = plt.colormaps["turbo"](np.linspace(0.05, 0.95, 25))
for (posterior, functions), row in zip(draws.items(), axes):
    values, places = at_data[posterior]
    ranges = (-1, 1), (values[:25].min(), values[:25].max()), (-1, 1)
    for column, (ax, at, curves) in enumerate(zip(row, grids, functions)):
        ax.axvspan(*ranges[column], color="0.93", linewidth=0)
        for curve, color in zip(curves, colors):
            ax.plot(at, curve, color=color, linewidth=0.9, alpha=0.75)
        edge = ax.get_xaxis_transform()
        if posterior == "locations" and column == 1:
            for own, color in zip(places, colors):
                ax.plot(own, np.full(len(own), 0.03), "|", color=color, transform=edge)
        elif column < 2:
            z = fitted[posterior].layers_[column].inducing.ravel()
            ax.plot(z, np.full(len(z), 0.03), "|", color="black", markersize=9, transform=edge)
    row[2].plot(x, y, ".", color="black", markersize=5)
    row[0].set_ylim(-3, 5)
    row[1].set_ylim(-1.9, 1.9)
    row[2].set_ylim(-1.5, 1.5)
    row[0].set_ylabel(names[posterior].replace(" as ", "\nas "))
for column, ax in enumerate(axes[3]):
    for i, posterior in enumerate(names):
        deviation = deviations[posterior][column]
        ax.semilogy(grids[column], deviation, color=f"C{i}", label=names[posterior])
    if column != 1:
        ax.axvspan(-1, 1, color="0.93", linewidth=0, zorder=0)
    ax.set_xlim(grids[column][0], grids[column][-1])
    ax.set_ylim(3e-4, 2)
axes[3, 0].set_ylabel("deviation of draws")
axes[3, 2].legend(fontsize=7, loc="upper center")
for ax, title in zip(axes[0], ("$f_1$", "$f_2$", "$f_2(f_1(x))$")):
    ax.set_title(title)
for ax, label in zip(axes[3], ("x", "input of $f_2$", "x")):
    ax.set_xlabel(label)
finish(figure, "fig5_samples", args)
