"""
Fig. 1 and 2: layers that fit together depend on each other
===========================================================

Two toys ('Compositional uncertainty in deep Gaussian processes', UAI 2020, Fig. 1 and 2). A solid
rectangle is moved onto a dashed one by two rotations about the origin and two translations, T2 R2
T1 R1; and x is mapped to y by three layers, each of which is x or -x.

What must be seen: many movements, and 4 compositions of 8, fit exactly. When layers are shuffled
between those movements, each layer as uncertain as before but independent of the others, they fit
no more, unless there is no uncertainty. Of distributions over the three functions that factorize
and fit, each keeps a single composition; one over the values (f1, f2) that factorizes keeps all 4.

Measured: corners of a rectangle of 2.2 by 1.2 miss by 5e-16 when layers depend on each other, by
2.7 when they are shuffled, and by 0.27 when they vary a tenth as much. There are 27 products of
sets of functions; the 4 of them that fit have one composition each. All 9 products of sets of
values fit, and the largest has 4 compositions: an entropy of log 4 nats instead of 0.
"""

# %%
# Fig. 1. The first rotation and translation are drawn; the target leaves one choice of the second.

from itertools import combinations, product

import matplotlib.pyplot as plt
import numpy as np
from gp_figures import arguments, finish, letter, table
from matplotlib.colors import ListedColormap

args = arguments()
corners = np.array([[-1.1, -0.6], [1.1, -0.6], [1.1, 0.6], [-1.1, 0.6]])
angle, shift = 1.1, np.array([6.0, 2.0])


def turn(angles):
    """Rotation matrices (..., 2, 2), counter-clockwise."""
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)


def draw(n, spread, rng):
    """R1, T1, R2, T2 of n movements that fit: angles (n,) and shifts (n, 2)."""
    r1 = 0.5 + 0.35 * spread * rng.standard_normal(n)
    t1 = [3.5, -0.5] + spread * rng.standard_normal((n, 2)) * [0.8, 1.2]
    r2 = angle - r1
    return [r1, t1, r2, shift - (turn(r2) @ t1[..., None])[..., 0]]


def move(layers):
    """The rectangles (n, 4, 2) after each layer."""
    stages = [np.repeat(corners[None], len(layers[0]), axis=0)]
    for layer in layers:
        is_turn = layer.ndim == 1
        stages.append(stages[-1] @ turn(layer).mT if is_turn else stages[-1] + layer[:, None])
    return stages


target = corners @ turn(angle).T + shift


def miss(layers):
    """How far corners are from where they should be: root of the mean square."""
    return float(np.sqrt(((move(layers)[-1] - target) ** 2).sum(axis=-1).mean()))


spreads = np.linspace(0, 1, 11)
misses = []
for spread in spreads:
    coupled = draw(2000, spread, np.random.default_rng(0))
    shuffled = [np.roll(layer, 7 * l, axis=0) for l, layer in enumerate(coupled)]
    misses.append([miss(coupled), miss(shuffled)])
misses = np.array(misses)
rows = [[f"{s:.1f}", float(c), float(i)] for s, (c, i) in zip(spreads, misses)]
table(["spread of layers", "coupled: miss", "independent: miss"], rows[::2])

# %%
# Five draws, with the ways of their centers: faint after T1 R1, strong where they end.

figure, axes = plt.subplots(
    1, 3, figsize=(11.5, 3.6), layout="constrained", width_ratios=[1.15, 1.15, 1]
)
figure.get_layout_engine().set(wspace=0.04)
coupled = draw(5, 1, np.random.default_rng(6))
shuffled = [np.roll(layer, l, axis=0) for l, layer in enumerate(coupled)]
for ax, layers, title in zip(
    axes, (coupled, shuffled), ("layers that depend on each other", "the same layers, independent")
):
    stages = move(layers)
    for i in range(5):
        color = f"C{i}"
        centers = [stage[i].mean(axis=0) for stage in stages]
        arc = turn(np.linspace(0, layers[2][i], 30)) @ centers[2]
        way = np.concatenate([centers[:2], arc, centers[4:]])
        ax.plot(*way.T, color=color, linewidth=0.8, alpha=0.7)
        ax.add_patch(plt.Polygon(stages[2][i], fill=False, edgecolor=color, alpha=0.35))
        ax.add_patch(plt.Polygon(stages[4][i], fill=False, edgecolor=color, linewidth=1.6))
    ax.add_patch(plt.Polygon(corners, fill=False, edgecolor="black", linewidth=2))
    dashed = dict(edgecolor="black", linewidth=2, linestyle=(0, (3, 3)), zorder=5)
    ax.add_patch(plt.Polygon(target, fill=False, **dashed))
    ax.set(xlim=(-2, 11), ylim=(-4.5, 6.5), aspect="equal", xticks=[], yticks=[])
    ax.set_title(title, fontsize=10)
axes[2].plot(spreads, misses[:, 0], "o-", color="C0", label="depend on each other", clip_on=False)
axes[2].plot(spreads, misses[:, 1], "s-", color="C1", label="independent")
axes[2].set(xlabel="spread of each layer (panels: 1)", ylabel="miss of the corners, rms")
axes[2].set_title("2,000 movements each", fontsize=10)
axes[2].legend(fontsize=8)
for ax, text in zip(axes, "ABC"):
    letter(ax, text)
finish(figure, "fig1_movements", args)

# %%
# Fig. 2: all compositions of layers s x, with signs s.

x = np.linspace(-1, 1, 5)
y = x
signs = (1, -1)
compositions = list(product(signs, repeat=3))


def fits(composition):
    value = x
    for sign in composition:
        value = sign * value
    return bool(np.allclose(value, y))


compositions.sort(key=lambda s: not fits(s))
fitting = [fits(s) for s in compositions]


def text(composition):
    return ", ".join("$-x$" if s < 0 else "$x$" for s in composition)


print(f"{sum(fitting)} of {len(compositions)} compositions fit:")
for signs_of, fit in zip(compositions, fitting):
    names = ", ".join(f"f{l + 1} = {'-x' if s < 0 else 'x'}" for l, s in enumerate(signs_of))
    print(f"  {names}: {'fits' if fit else 'does not fit'}")
print()

# %%
# What a distribution that factorizes over functions can hold: a set of signs for each layer, and
# all that can be made of them. It must not hold what does not fit.

sets = [set(c) for n in (1, 2) for c in combinations(signs, n)]
over_functions = [
    [all(s in own for s, own in zip(composition, sets_of)) for composition in compositions]
    for sets_of in product(sets, repeat=3)
]


def functions(f1, f2):
    """The signs of layers that take x to values f1, f1 to f2, and f2 to y."""
    return tuple(int(np.sign(b @ a)) for a, b in ((x, f1), (f1, f2), (f2, y)))


# One over values: a set of values f1, and one of f2; functions follow from the values.
over_values = []
for sets_of in product(sets, repeat=2):
    held = {functions(a * x, b * x) for a, b in product(*sets_of)}
    over_values.append([composition in held for composition in compositions])

rows = []
for name, supports in (("the functions", over_functions), ("the values", over_values)):
    supports = np.array(supports)
    good = ~(supports & ~np.array(fitting)).any(axis=1)
    most = int(supports[good].sum(axis=1).max())
    total = f"{int((supports & fitting).sum())} of {int(supports.sum())}"
    rows.append([name, len(supports), total, int(good.sum()), most, float(np.log(most))])
header = ["independent are", "products", "compositions that fit", "products that fit"]
table([*header, "most compositions in one", "entropy"], rows)

# %%
# Values after each layer, in the colors of the functions that make them, and all products.

figure = plt.figure(figsize=(11, 6.2), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.25])
axes = top.subplots(1, 4, sharey=True)
colors = {1: "C0", -1: "C1"}
axes[0].plot(x, x, color="black")
axes[3].plot(x, y, color="black")
for s in signs:
    axes[1].plot(x, s * x, color=colors[s], linewidth=2, label=f"the function is {text([s])}")
for first, second in product(signs, repeat=2):
    value = second * first * x
    side = 0.07 * first  # two ways to the same values
    axes[2].plot(x, value + side, color=colors[first], linewidth=5, solid_capstyle="butt")
    axes[2].plot(x, value + side, color=colors[second], linewidth=1.8)
axes[2].text(0, 1.0, "edge: $f_1$\ncore: $f_2$", ha="center", va="top", fontsize=8)
for ax, title in zip(axes, ("x", "values $f_1$", "values $f_2$", "y")):
    ax.set_title(title, fontsize=10)
    ax.set_xlabel("x", fontsize=9)
axes[1].legend(fontsize=7, loc="upper center")
letter(axes[0], "A")

panels = bottom.subplots(1, 2, width_ratios=[3, 1.25])
shades = ListedColormap(["white", "C3", "C2"])
order = sorted(range(len(over_functions)), key=lambda i: (sum(over_functions[i]), i))
names = [f"{text(c)}{'  fits' if fit else ''}" for c, fit in zip(compositions, fitting)]
for ax, supports in zip(panels, ([over_functions[i] for i in order], over_values)):
    held = np.array(supports, int)
    picture = (held * (1 + np.array(fitting, int))).T
    ax.imshow(picture, cmap=shades, vmin=0, vmax=2, aspect="auto")
    ax.set_xticks(np.arange(len(supports) + 1) - 0.5, [], minor=True)
    ax.set_yticks(np.arange(9) - 0.5, [], minor=True)
    ax.grid(which="minor", color="0.8", linewidth=0.6)
    ax.tick_params(which="minor", length=0)
    ax.set_xticks([])
    ax.axhline(3.5, color="black", linewidth=1)
    for i, column in enumerate(picture.T):
        if not (column == 1).any():
            ax.text(i, 7.75, str((column == 2).sum()), ha="center", va="top", fontsize=8)
panels[0].set_yticks(range(8), names, fontsize=8)
panels[0].set_ylabel("$f_1,\\ f_2,\\ f_3$", fontsize=9)
panels[1].set_yticks([])
panels[0].set_title("27 products over functions: only single compositions fit", fontsize=10)
panels[1].set_title("9 over values: all fit", fontsize=10)
for ax, text_ in zip(panels, "BC"):
    ax.set_xlabel("a product; below: compositions in it, if all fit", fontsize=8, labelpad=14)
    letter(ax, text_)
finish(figure, "fig2_signs", args)
