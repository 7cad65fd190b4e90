"""Pictures of an atlas; imports matplotlib.

Each function takes an `Atlas` and gives a `matplotlib.figure.Figure`, which belongs to nobody else:
there is no state of pyplot.
"""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import Normalize, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from ..readouts.plots import HUE_STEP
from .atlas_stages import COMBINED, LEVELS, PROPERTIES, SETS

WIDTH = 10  # inches
INK, GRAY, PALE, RED = "#222222", "#9a9a9a", "#e4e4e4", "#c0392b"
STYLE = {
    "font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "legend.fontsize": 8, "legend.frameon": False, "text.color": INK,
    "axes.edgecolor": GRAY, "axes.labelcolor": INK, "xtick.color": GRAY, "ytick.color": GRAY,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.linewidth": 0.6,
    "xtick.major.width": 0.6, "ytick.major.width": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "image.cmap": "viridis", "figure.dpi": 130,
}  # fmt: skip
COLORS = {  # of what is high; vertices of the triangle of Fig. 4C, and what else is binarized there
    "phase_invariance": "#d1495b", "suppression": "#2a9d8f", "cross_orientation": "#3b6fb6",
    "orientation": "#8a6d3b", "nonlinearity": "#7b5ea7", "dog_vs_mei": "#5b7f95",
}  # fmt: skip
MIXED = ("#b8b8b8", "#3b6fb6", "#2a9d8f", "#35b6d4", "#d1495b", "#8e5aa8", "#e9a03b", "#222222")
SHORT = {
    "phase_invariance": "phase", "suppression": "suppression", "cross_orientation": "plaid",
}  # fmt: skip
N_BEST, N_COLUMNS = 16, 10
MOST_IMAGES = 24  # on a map


def chosen_clusters(atlas):
    """Up to four clusters: of the largest mean of each index that has curves, largest first."""
    means = atlas.statistics["means"]
    names = ("orientation", "phase_invariance", "suppression", "cross_orientation")
    return list(dict.fromkeys(int(np.argmax(means[name])) for name in names))


def best_predicted(atlas, which, n=N_BEST):
    """Indices of the n best predicted neurons among these."""
    neurons = np.flatnonzero(which)
    order = np.argsort(-atlas["scores"]["correlation"][neurons], kind="stable")
    return neurons[order[:n]]


def scores(atlas):
    """Correlations, and what they could be."""
    found = atlas["scores"]
    figure, axes = _panels(1, 3, 3.0)
    bins = np.linspace(min(0, found["correlation"].min(), found["glm_correlation"].min()), 1, 31)
    for name, label, style in (
        ("ceiling", "noise ceiling", {"color": PALE}),
        ("correlation", "model", {"histtype": "step", "color": RED, "linewidth": 1.4}),
        ("glm_correlation", "linear model", {"histtype": "step", "color": GRAY}),
    ):
        axes[0].hist(found[name], bins, label=label, **style)
    axes[0].legend(loc="lower left", bbox_to_anchor=(-0.05, 1), ncols=3, handlelength=1)
    axes[0].set(xlabel="correlation to average", ylabel="neurons")
    for ax, x, y, labels in (
        (axes[1], "ceiling", "correlation", ("noise ceiling", "correlation to average")),
        (axes[2], "oracle", "single_trial", ("oracle", "single-trial correlation")),
    ):
        ax.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8)
        ax.scatter(found[x], found[y], s=_point(atlas), color=INK, alpha=0.5, linewidths=0)
        ax.set(xlabel=labels[0], ylabel=labels[1], aspect="equal")
    return figure


def bar_codes(atlas):
    """Readouts of all neurons, sorted by cluster, before and after alignment."""
    stage, labels = atlas["alignment"], atlas.labels
    order, sizes = np.argsort(labels, kind="stable"), np.bincount(labels)
    lengths = np.linalg.norm(stage["readouts"], axis=(1, 2), keepdims=True)
    raw = stage["readouts"] / np.where(lengths > 0, lengths, 1)
    figure = _figure(4.6)
    grid = figure.add_gridspec(1, 3, width_ratios=[0.02, 1, 1], wspace=0.03)
    ax = figure.add_subplot(grid[0])
    ax.imshow(_colors(labels[order])[:, None], aspect="auto", interpolation="nearest")
    middles = np.searchsorted(labels[order], np.arange(atlas.n_clusters) + 0.5) - sizes / 2 - 0.5
    named = np.flatnonzero(sizes >= len(labels) / 40)  # others have no room
    ax.set_yticks(middles[named], named + 1)
    ax.tick_params(length=0)
    ax.set(xticks=[], ylabel="neurons, by cluster")
    _, n_features, n_orientations = raw.shape
    for i, (codes, title) in enumerate(((raw, "as fitted"), (stage["aligned"], "aligned"))):
        ax = figure.add_subplot(grid[i + 1])
        flat = codes[order].reshape(len(codes), -1)
        extreme = np.quantile(np.abs(flat), 0.995) or 1
        ax.imshow(flat, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto",
                  interpolation="antialiased")  # fmt: skip
        for k in range(1, n_features):
            ax.axvline(k * n_orientations - 0.5, color="white", linewidth=1.2)
        for row in np.flatnonzero(np.diff(labels[order])):
            ax.axhline(row + 0.5, color=INK, linewidth=0.4)
        ticks = (np.arange(n_features) + 0.5) * n_orientations - 0.5
        ax.set_xticks(ticks, range(1, n_features + 1))
        ax.tick_params(length=0)
        ax.set(yticks=[], title=title, xlabel=f"feature, in {n_orientations} orientations")
    return figure


def maps_of_meis(atlas):
    """The embedding by cluster, with MEIs of clusters, and with MEIs of neurons."""
    figure, axes = _panels(1, 2, 5.2)
    places, labels = atlas["alignment"]["embedding"], atlas.labels
    centers = np.stack([np.median(places[labels == c], 0) for c in range(atlas.n_clusters)])
    by_size = np.argsort(-np.bincount(labels), kind="stable")
    best = best_predicted(atlas, np.ones(len(labels), bool), 10 * MOST_IMAGES)
    for ax, images, at, of, title in (
        (axes[0], atlas["cluster_meis"]["images"], centers, np.arange(atlas.n_clusters)[by_size],
         "MEIs of clusters"),
        (axes[1], cropped(atlas, atlas["meis"]["images"]), places, best, "MEIs of neurons"),
    ):  # fmt: skip
        embedding(ax, atlas, _colors(labels), alpha=0.7)
        side = 0.085 * np.ptp(places, 0).max()
        names = of if ax is axes[0] else labels
        drawn = []
        for i in of:
            if len(drawn) == MOST_IMAGES and ax is axes[1]:
                break
            if drawn and np.abs(np.array(drawn) - at[i]).max(1).min() < 1.1 * side:
                continue
            drawn.append(at[i])
            color = _colors(i if ax is axes[0] else names[i])
            _image_at(ax, images[i], at[i], side, color)
        ax.set_title(title)
    return figure


def cluster_meis(atlas):
    """All of them, with how well they drive their neurons."""
    share = share_of_own(atlas["cluster_meis"]["responses"], atlas["meis"]["responses"])
    labels = atlas.labels
    titles = [f"{c + 1}: {percent(median(share[labels == c]))}" for c in range(atlas.n_clusters)]
    return _tiles(atlas["cluster_meis"]["images"], titles, _colors(np.arange(atlas.n_clusters)))


def optimal_stimuli(atlas):
    """The best Gabor, difference of Gaussians and image of a neuron, and of its cluster (2A)."""
    neuron = int(np.argmax(atlas["scores"]["correlation"]))
    own = atlas.labels == atlas.labels[neuron]
    images, titles = [], []
    for of, mei, responses in (
        ("neuron", cropped(atlas, atlas["meis"]["images"])[neuron], atlas["meis"]["responses"]),
        ("cluster", atlas["cluster_meis"]["images"][atlas.labels[neuron]],
         atlas["cluster_meis"]["responses"]),
    ):  # fmt: skip
        rows = slice(neuron, neuron + 1) if of == "neuron" else own
        for name, family, stage in (
            ("Gabor", atlas.gabors(of), "gabors"),
            ("DoG", atlas.dogs(of), "dogs"),
        ):
            drawn = family[neuron : neuron + 1].images(atlas.size)
            images.append(_crop(drawn[0], atlas["gabors"]["neuron_center"][neuron], _side(atlas)))
            titles.append(f"{name}: {atlas[stage][of + '_responses'][rows].mean():.2f}")
        images.append(mei)
        titles.append(f"MEI: {responses[rows].mean():.2f}")
    return _tiles(images, titles, n_columns=3)


def tuning(atlas, cluster):
    """MEIs and four curves of the best predicted neurons of a cluster."""
    neurons = best_predicted(atlas, atlas.labels == cluster)
    stage = atlas["tuning"]
    n_orientations = stage["orientation_curves"].shape[1]
    preferred = np.nan_to_num(stage["preferred"][neurons]) / np.pi * n_orientations
    first = np.rint(preferred).astype(int) - n_orientations // 2
    turned = (first[:, None] + np.arange(n_orientations + 1)) % n_orientations
    phases = stage["phase_curves"][neurons]
    phases = np.roll(phases, phases.shape[1] // 2, axis=1)
    curves = (
        ("orientation", np.take_along_axis(stage["orientation_curves"][neurons], turned, 1),
         "orientation", "±90° of the preferred"),
        ("phase invariance", np.concatenate([phases, phases[:, :1]], 1), "phase_invariance",
         "±180° of the best"),
        ("size", stage["size_contrast_curves"][neurons, -1], "suppression",
         "small to large, log"),
        ("plaid", stage["plaid_curves"][neurons, -1], "cross_orientation",
         "orthogonal contrast, 0 to full"),
    )  # fmt: skip
    n_rows = -(-len(neurons) // 4)
    figure, axes = _panels(1, 5, 0.6 + 0.47 * n_rows)
    images = cropped(atlas, atlas["meis"]["images"][neurons], neurons)
    mosaic(axes[0], images, 4)
    axes[0].set_title(f"cluster {cluster + 1}: MEIs", color=_colors(cluster) * 0.8)
    for ax, (title, values, index, label) in zip(axes[1:], curves):
        _small_multiples(ax, values, stage[index][neurons], _colors(cluster) * 0.8)
        ax.set_title(title)
        ax.set_xlabel(label, fontsize=8, color=GRAY)
    return figure


def maps_of_properties(atlas):
    """The embedding colored by each property, with its histogram (Fig. 3)."""
    figure = _figure(5.8)
    maps, histograms = np.split(
        figure.subplots(4, 4, height_ratios=[4, 0.7, 4, 0.7]).reshape(2, 2, 4), 2, axis=1
    )
    for ax, below, (name, title) in zip(maps.flat, histograms.flat, PROPERTIES.items()):
        values = atlas.properties[name]
        known = values[np.isfinite(values)]
        low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0, 1)
        scale = Normalize(low, high if high > low else low + 1)
        shown = np.argsort(values)[: len(known)]  # NaN come last, and stay pale
        embedding(ax, atlas, PALE)
        ax.scatter(*atlas["alignment"]["embedding"][shown].T, c=values[shown], norm=scale,
                   s=_point(atlas), linewidths=0)  # fmt: skip
        ax.set_title(title)
        limits = scale.vmin, scale.vmax
        counts, edges = np.histogram(np.clip(known, *limits), 24, limits)
        colors = colormaps["viridis"](scale((edges[1:] + edges[:-1]) / 2))
        below.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colors)
        below.locator_params("x", nbins=4)
        below.set(xlim=limits, yticks=[])
        below.spines["left"].set_visible(False)
    maps.flat[-1].remove()
    histograms.flat[-1].remove()
    return figure


def scatter_matrix(atlas):
    """Means of clusters, each two properties (Fig. 4A)."""
    found = atlas.statistics
    like = np.array(found["high"]["gabor_vs_mei"])
    names = list(PROPERTIES)
    k = len(names)
    figure = Figure((WIDTH, 0.85 * WIDTH))
    grid = figure.add_gridspec(
        k - 1, k - 1, left=0.08, right=0.99, top=0.96, bottom=0.07, wspace=0.35, hspace=0.55
    )
    for i in range(1, k):
        for j in range(i):
            ax = figure.add_subplot(grid[i - 1, j])
            x, y = (np.array(found["means"][names[m]]) for m in (j, i))
            for which, color in ((~like, GRAY), (like, RED)):
                ax.scatter(x[which], y[which], s=9, color=color, linewidths=0)
            for height, subset, color in ((1.17, "gabor_like", RED), (1.02, "all", INK)):
                if subset in found["correlations"]:
                    r, p = (found["correlations"][subset][m][i][j] for m in "rp")
                    ax.text(0.5, height, f"{r:.2f} ({p_value(p)})", color=color, fontsize=7.5,
                            ha="center", transform=ax.transAxes)  # fmt: skip
            ax.locator_params(nbins=3)
            ax.tick_params(labelsize=6.5, length=2)
            if j == 0:
                ax.set_ylabel(PROPERTIES[names[i]].replace(" ", "\n", 1), fontsize=8)
            if i == k - 1:
                ax.set_xlabel(PROPERTIES[names[j]].replace(" ", "\n", 1), fontsize=8)
    return figure


def maps_of_high(atlas):
    """Which clusters are high: Gabor-like ones above (4B), the others below (4D)."""
    high = {name: np.array(h) for name, h in atlas.statistics["high"].items()}
    like = high["gabor_vs_mei"]
    figure, axes = _panels(2, 4, 5.4)
    rows = (
        (like, ("orientation", "phase_invariance", "suppression", "cross_orientation")),
        (~like, ("orientation", "nonlinearity", "dog_vs_mei", None)),
    )
    titles = PROPERTIES | {"dog_vs_mei": "DoG vs MEI"}
    for row, (subset, names) in zip(axes, rows):
        for ax, name in zip(row, names):
            if name is None:
                ax.remove()
                continue
            colors = np.where(high[name], COLORS[name], GRAY)
            colors = np.where(subset, colors, PALE)
            embedding(ax, atlas, colors[atlas.labels])
            ax.set_title(titles[name], color=COLORS[name])
    for ax, text in zip(axes[:, 0], ("Gabor-like clusters", "other clusters")):
        ax.set_ylabel(text)
    return figure


def combinations(atlas):
    """Eight combinations of high and low on the map, and how many clusters have each (4C)."""
    found = atlas.statistics
    which = np.array(found["combination"])
    figure = _figure(3.8)
    map_ax, ax = figure.subplots(1, 2, width_ratios=[1, 1.3])
    colors = np.where(which >= 0, np.array(MIXED)[which], PALE)
    embedding(map_ax, atlas, colors[atlas.labels])
    names = []
    for i in range(len(MIXED)):
        high = [SHORT[n] for n, bit in zip(COMBINED, f"{i:03b}") if bit == "1"]
        names.append(" + ".join(high) or "none is high")
    ax.barh(range(len(MIXED)), found["combinations"], color=MIXED)
    ax.set_yticks(range(len(MIXED)), names)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set(xlabel="Gabor-like clusters", ylim=(len(MIXED) - 0.4, -0.6))
    return figure


def center(atlas):
    """How many neurons a few Gabors in the middle drive, and these Gabors (Fig. 5D, E)."""
    stage = atlas["center"]
    figure = _figure(3.6)
    ax, pictures = figure.subplots(1, 2, width_ratios=[1, 1.5])
    for n, curve, shade in zip(SETS, stage["coverage"], ("#b8b8b8", "#7a7a7a", INK)):
        ax.plot(100 * curve, 100 * LEVELS, color=shade, label=f"{n} Gabor{'s' if n > 1 else ''}")
    ax.axhline(50, color=RED, linewidth=0.6)
    ax.legend(loc="upper right")
    ax.set(xlabel="neurons, %", ylabel="of the response to the optimal Gabor, %",
           xlim=(0, 100), ylim=(0, 100))  # fmt: skip
    if len(stage["images"]):
        mosaic(pictures, stage["images"], 5)
    else:
        pictures.axis("off")
    return figure


def modes(atlas):
    """Peaks of the density of the embedding (Fig. 6)."""
    stage = atlas["statistics"]
    figure = _figure(4.6, 6)
    ax = figure.subplots()
    embedding(ax, atlas, _colors(atlas.labels), alpha=0.5)
    for i, (peak, support) in enumerate(zip(stage["peaks"], stage["support"])):
        ax.add_patch(Circle(peak, float(stage["bandwidth"]), fill=False, color=INK,
                            linewidth=0.5 + support))  # fmt: skip
        ax.text(*peak, i + 1, ha="center", va="center", fontsize=7)
    return figure


# Numbers


def share_of_own(responses, own):
    """Responses in units of those to a neuron's own stimulus; NaN of silent neurons."""
    return np.divide(responses, own, out=np.full(len(own), np.nan), where=own > 0)


def median(values):
    """Of what is known."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def percent(value):
    """In words, if it is known."""
    return f"{100 * value:.0f} %" if np.isfinite(value) else "unknown"


def p_value(p):
    """In three digits."""
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")


# Parts of figures


def _figure(height, width=WIDTH):
    return Figure((width, height), layout="constrained")


def _panels(n_rows, n_columns, height):
    figure = _figure(height)
    return figure, figure.subplots(n_rows, n_columns)


def embedding(ax, atlas, color, **options):
    """Neurons in the plane."""
    places = atlas["alignment"]["embedding"]
    ax.scatter(*places.T, c=color, s=_point(atlas), linewidths=0, **options)
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.spines[:].set_visible(False)


def _point(atlas):
    """Size of a neuron's dot."""
    return np.clip(6000 / len(atlas.labels), 2, 30)


def _image_at(ax, image, place, side, color):
    (x, y), half = place, side / 2
    ax.imshow(gray(image), extent=(x - half, x + half, y - half, y + half), zorder=3,
              interpolation="bilinear")  # fmt: skip
    ax.add_patch(Rectangle((x - half, y - half), side, side, fill=False, color=color, zorder=4))
    ax.autoscale()
    ax.margins(0.05)


def gray(image):
    """RGB of luminances about 0, which is middle gray."""
    extreme = np.abs(image).max() or 1
    return np.repeat((0.5 + 0.5 * image / extreme)[..., None], 3, axis=-1)


def _tiles(images, titles, colors=None, n_columns=N_COLUMNS, width=WIDTH):
    """A figure of images in rows, with titles."""
    n_columns = min(n_columns, len(images))
    n_rows = -(-len(images) // n_columns)
    side = width / max(n_columns, 8)
    figure = _figure(n_rows * (side + 0.3), n_columns * side)
    axes = np.atleast_1d(figure.subplots(n_rows, n_columns)).ravel()
    for ax in axes:
        ax.axis("off")
    for i, (ax, image, title) in enumerate(zip(axes, images, titles)):
        ax.imshow(gray(image), interpolation="bilinear")
        ax.set_title(title, fontsize=8.5, color=INK if colors is None else colors[i] * 0.8)
    return figure


def mosaic(ax, images, n_columns):
    """Images in rows, in one axes."""
    height, width = images[0].shape
    n_rows = -(-len(images) // n_columns)
    for i, image in enumerate(images):
        row, column = divmod(i, n_columns)
        x, y = column * width * 1.08, -row * height * 1.08
        ax.imshow(gray(image), extent=(x, x + width, y - height, y), interpolation="bilinear")
    ax.set(xlim=(0, 1.08 * width * n_columns), ylim=(-1.08 * height * n_rows, 0), aspect="equal")
    ax.set_anchor("N")
    ax.axis("off")


def _small_multiples(ax, curves, index, color):
    """Curves (n, m), each of its own height, four in a row, with their indices."""
    x = np.linspace(0, 0.8, curves.shape[1])
    for i, (curve, value) in enumerate(zip(curves, index)):
        row, column = divmod(i, 4)
        height = 0.62 * curve / (curve.max() or 1)
        ax.plot(column + x, height - row, color=color, linewidth=1)
        ax.plot([column, column + 0.8], [-row, -row], color=PALE, linewidth=0.6, zorder=0)
        ax.text(column + 0.4, 0.68 - row, f"{value:.2f}", ha="center", fontsize=6.5)
    ax.set(xlim=(-0.1, 3.9), ylim=(-row - 0.1, 0.95), xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _side(atlas):
    """Of patches that are shown of images."""
    return min(atlas["cluster_meis"]["images"].shape[1], *atlas.size)


def cropped(atlas, images, neurons=None):
    """Patches about the receptive fields of neurons."""
    centers = atlas["gabors"]["neuron_center"]
    centers = centers if neurons is None else centers[neurons]
    side = _side(atlas)
    return np.stack([_crop(image, center, side) for image, center in zip(images, centers)])


def _crop(image, center, side):
    """(side, side) about a place, 0 outside of the image."""
    half = side // 2
    top, left = np.rint(center).astype(int)
    padded = np.pad(image, half + 1)
    return padded[top + 1 : top + 1 + side, left + 1 : left + 1 + side]


def _colors(labels):
    """RGB of clusters: those that follow each other differ."""
    hues = np.asarray(labels) * HUE_STEP % 1
    return hsv_to_rgb(np.stack([hues, np.full_like(hues, 0.6), np.full_like(hues, 0.85)], -1))
