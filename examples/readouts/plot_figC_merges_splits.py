"""
Figs. C1 and C2: merging and splitting blocks
=============================================

From the blocks of Fig. 7, the three next merges of the two blocks with the highest correlation
(above), and the last three merges undone, with maximally exciting images (MEIs) of a cluster on
either side (below) (Ustyuzhaninov et al., ICLR 2020, appendix C, Figs. C1 and C2).

What must be seen: merges join blocks of different functions at correlations below the threshold;
splits first take apart the two functions that share a block, whose MEIs differ, and then clusters
of one function, whose MEIs are the same. So it is.

Measured for 1500 neurons of thirty types that compute ten functions: merges at 0.43, 0.41 and 0.41,
all of different functions. Splits at 0.70, of two functions, then at 0.81 and 0.93 within one: at
0.81 a cluster of a single neuron leaves, at 0.93 a redundant copy.
"""

# %%
# Each step starts where the one before it ended.

import matplotlib.pyplot as plt
import numpy as np
from population import analyze
from readout_figures import arguments, finish, mosaic, table

from fastvis.readouts import plots

args = arguments()
analysis = analyze(args.full)
population, clusters, blocks = analysis.population, analysis.clusters, analysis.blocks
merges, splits = blocks.merges(3), blocks.splits(3)

# %%
# Which of the ten functions the neurons of either side have: a split of two functions comes before
# splits within one.

functions = population.functions[population.labels]
rows = []
for kind, steps in (("merge", merges), ("split", splits)):
    apart = blocks if kind == "merge" else None
    for step in steps:
        finer = step.blocks if kind == "split" else apart
        sides = []
        for block in step.pair:
            counts = np.bincount(functions[finer.labels[clusters.labels] == block], minlength=10)
            sides.append("+".join(str(k) for k in np.flatnonzero(counts > 0.1 * counts.sum())))
        rows.append([f"{kind} {step.pair[0]} | {step.pair[1]}", step.blocks.n_blocks])
        rows[-1] += [step.correlation, " | ".join(sides)]
        apart = step.blocks
table(["", "blocks after", "correlation", "functions"], rows)

# %%
figure = plt.figure(figsize=(10, 10.2), layout="constrained")
above, middle, below = figure.subfigures(3, 1, height_ratios=[1.1, 1.1, 0.62])
for ax, step in zip(above.subplots(1, 3), merges):
    plots.plot_confusion(analysis.confusion, step.blocks, ax=ax)
    a, b = step.pair
    ax.set_title(f"{a} + {b} to {step.merged}: {step.correlation:.2f}", fontsize=9)
above.suptitle("C1: merges", fontsize=10, fontweight="bold")
panels = below.subplots(1, 6)
for ax, pair, step in zip(middle.subplots(1, 3), panels.reshape(3, 2), splits):
    plots.plot_confusion(analysis.confusion, step.blocks, ax=ax)
    a, b = step.pair
    ax.set_title(f"{step.merged} to {a} and {b}: {step.correlation:.2f}", fontsize=9)
    for place, block in zip(pair, step.pair):
        of = analysis.best(analysis.one_of(block, step.blocks))
        mosaic(place, population.core.meis(population.readouts[of]), f"block {block}")
for ax in (*above.axes, *middle.axes):
    ax.tick_params(labelsize=6)
middle.suptitle("C2: splits", fontsize=10, fontweight="bold")
finish(figure, "figC_merges_splits", args)
