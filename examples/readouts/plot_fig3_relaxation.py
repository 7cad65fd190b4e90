"""
Fig. 3: relaxed rotations have fewer local minima
=================================================

The distance between two readouts, one of them turned by linear interpolation between cyclic shifts,
eq (2), by its relaxation at several temperatures, eq (4), or, not in the paper, exactly as a
periodic function (Ustyuzhaninov et al., ICLR 2020, Fig. 3).

What must be seen: the curve of linear interpolation (black) has a kink at each orientation and a
local minimum between most of them; at small temperatures the relaxation (light blue) is smooth,
with a single minimum near that of the black curve; at large ones it has all minima again. So it is.

Measured: 7 local minima of linear interpolation, 1 of the relaxation at T = 1 and 2, 2 at 5, 7 at
20. The minimum is near 2.6 radians for all but small T (2.3 at T = 1). Minima come from blur:
halfway between two orientations interpolation makes the readout shorter, to 0.86 here, and so
nearer. The exact rotation keeps its length (0.99) and has the 2 minima that are in the data.
"""

# %%
# Two readouts of one feature in eight orientations, drawn from a Gaussian process.

import matplotlib.pyplot as plt
import numpy as np
from readout_figures import arguments, finish, table

from fastvis.readouts import (
    cyclic_rotation,
    fourier_rotation,
    make_rotated_readouts,
    plots,
    von_mises_rotation,
)

args = arguments()
temperatures = (1, 2, 5, 20)
first, second = make_rotated_readouts(2, 2, lengthscale=0.5, rng=1).readouts

# %%
# Local minima on the circle, and how much shorter the turned readout is than it was, at most.

angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
copies = np.repeat(second[None], len(angles), axis=0)
turned = {"linear interpolation (2)": cyclic_rotation(copies, angles)}
for T in temperatures:
    turned[f"relaxation (4), T = {T}"] = von_mises_rotation(copies, angles, T)
turned["exact (Fourier)"] = fourier_rotation(copies, angles)

rows = []
for label, readouts in turned.items():
    distance = np.linalg.norm(readouts - first, axis=(1, 2))
    minima = (distance < np.roll(distance, 1)) & (distance <= np.roll(distance, -1))
    length = np.linalg.norm(readouts, axis=(1, 2)) / np.linalg.norm(second)
    rows.append([label, int(minima.sum()), float(angles[distance.argmin()]), float(length.min())])
table(["rotation", "local minima", "best angle", "least length"], rows)

# %%
figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
plots.plot_distance_curves(first, second, temperatures, ax=ax)
exact = np.linalg.norm(turned["exact (Fourier)"] - first, axis=(1, 2))
ax.plot(angles, exact, "--", color="C1", label="exact (Fourier)")
ax.legend(fontsize=7, loc="upper right")
ax.set_ylim(1, 1.35 * exact.max())
inset = ax.inset_axes([0.02, 0.72, 0.28, 0.26])
both = np.concatenate([first, second])
inset.imshow(both, cmap="RdBu_r", vmin=-np.abs(both).max(), vmax=np.abs(both).max())
inset.set_xticks([])
inset.set_yticks([0, 1], ["fixed", "turned"], fontsize=7)
inset.yaxis.tick_right()
finish(figure, "fig3_relaxation", args)
