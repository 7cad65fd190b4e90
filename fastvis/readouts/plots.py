"""Figures of readouts and their clusters; needs matplotlib (``pip install fastvis[plot]``)."""

import numpy as np

from .._validation import check_array, check_float
from .arguments import check_labels, check_readouts
from .rotation import cyclic_rotation, von_mises_rotation

HUE_STEP = 0.618  # golden ratio: clusters that follow each other differ in color


def plot_readouts(readouts, labels=None, ax=None, *, n_orientations=None, layout="feature"):
    """Show readouts as a matrix, one row a neuron: the "bar codes" of Fig. 4.

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations) or (n_neurons, n_dims)
    labels : array_like of int, (n_neurons,), optional
        Clusters: rows are sorted by them (and keep their order within), with a line between two.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the default is a new figure.
    n_orientations : int, optional
        Needed for flat readouts.
    layout : {"feature", "orientation"}
        Which index of flat readouts runs slowest. Columns are features with their orientations
        side by side, for both; thin lines separate features.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, Fig. 4.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from fastvis.readouts.plots import plot_readouts
    >>> ax = plot_readouts(np.random.default_rng(0).normal(size=(5, 3, 8)), [0, 1, 0, 1, 1])
    >>> ax.images[0].get_array().shape
    (5, 24)
    """
    readouts = check_readouts(readouts, n_orientations, layout)
    n_neurons, n_features, n_orientations = readouts.shape
    if labels is not None:
        labels = check_labels(labels, n_neurons)
        order = np.argsort(labels, kind="stable")
        readouts, labels = readouts[order], labels[order]
    ax = _axes(ax)
    extreme = np.abs(readouts).max() or 1
    image = readouts.reshape(n_neurons, -1)
    ax.imshow(image, cmap="RdBu_r", vmin=-extreme, vmax=extreme, aspect="auto")
    for k in range(1, n_features):
        ax.axvline(k * n_orientations - 0.5, color="black", linewidth=0.5)
    if labels is not None:
        for row in np.flatnonzero(np.diff(labels)):
            ax.axhline(row + 0.5, color="black", linewidth=1)
    ax.set_xticks((np.arange(n_features) + 0.5) * n_orientations - 0.5, range(n_features))
    ax.set(xlabel="feature", ylabel="neuron")
    return ax


def plot_distance_curves(first, second, temperatures=(1, 2, 5, 20), ax=None):
    """Distance between a readout and another one that is turned, over the angle (Fig. 3).

    Parameters
    ----------
    first, second : array_like, (n_orientations,) or (n_features, n_orientations)
        Two readouts; the second is turned.
    temperatures : sequence of float
        Of `von_mises_rotation`, drawn in shades of blue, darker for higher ones. Linear
        interpolation, `cyclic_rotation`, is black.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the default is a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        Readouts of different shapes, temperatures below 0.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 3, Fig. 3.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fastvis.readouts.plots import plot_distance_curves
    >>> ax = plot_distance_curves([0, 0, 1, 0], [0, 1, 0, 0])
    >>> [line.get_label() for line in ax.lines]
    ['T = 1', 'T = 2', 'T = 5', 'T = 20', 'linear interpolation']
    """
    first, second = _check_pair(first, second)
    temperatures = check_array(temperatures, "temperatures", ndim=1)
    temperatures = [check_float(T, "temperatures", minimum=0) for T in temperatures]
    angles = np.linspace(0, 2 * np.pi, 361)
    copies = np.repeat(second[None], len(angles), axis=0)

    def distance(turned):
        return np.linalg.norm((turned - first).reshape(len(angles), -1), axis=1)

    ax = _axes(ax)
    for T, rank in zip(temperatures, np.argsort(np.argsort(temperatures))):
        shade = (rank + 1) / len(temperatures)
        color = (0.75 * (1 - shade), 0.85 * (1 - shade) + 0.2 * shade, 1 - 0.35 * shade)
        turned = von_mises_rotation(copies, angles, T)
        ax.plot(angles, distance(turned), color=color, label=f"T = {T:g}")
    turned = cyclic_rotation(copies, angles)
    ax.plot(angles, distance(turned), color="black", label="linear interpolation")
    ax.set_xticks(np.arange(5) * np.pi / 2, ["0", "π/2", "π", "3π/2", "2π"])
    ax.set(xlabel="rotation angle", ylabel="distance", xlim=(0, 2 * np.pi))
    ax.legend()
    return ax


def plot_embedding(embedding, labels, centers=None, ax=None):
    """Show neurons in the plane, colored by cluster, with stars at the centers (Fig. 6).

    Parameters
    ----------
    embedding : array_like, (n_neurons, 2)
        As from `embed`.
    labels : array_like of int, (n_neurons,)
        The cluster of each neuron.
    centers : array_like, (K, 2), optional
        Embedded centers. t-SNE has no place for new points: embed the means of the clusters
        together with the neurons, and pass the last K rows here.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the default is a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Without matplotlib.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, Figs. 6 and A1 to A3.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fastvis.readouts.plots import plot_embedding
    >>> ax = plot_embedding([[0, 0], [1, 1], [0, 1]], [0, 1, 0], centers=[[0, 0.5], [1, 1]])
    >>> [len(points.get_offsets()) for points in ax.collections]
    [3, 2]
    """
    embedding = _check_points(embedding, "embedding")
    labels = check_labels(labels, len(embedding))
    if centers is not None:
        centers = _check_points(centers, "centers")
    hues = labels * HUE_STEP % 1
    ax = _axes(ax)
    ax.scatter(*embedding.T, c=hues, cmap="hsv", vmin=0, vmax=1, s=6, linewidths=0)
    if centers is not None:
        ax.scatter(*centers.T, c="black", marker="*", s=60)
    ax.set(xticks=[], yticks=[], aspect="equal")
    return ax


def plot_confusion(confusion, blocks, labels=None, ax=None):
    """Show a confusion matrix arranged in blocks, which are outlined (Fig. 7).

    Parameters
    ----------
    confusion : ClusterConfusion or array_like, (K, K) or (n_neurons, n_neurons)
        Of clusters, or, together with ``labels``, of neurons, as from `mei_confusion`.
    blocks : Blocks
        As from `merge_blocks`.
    labels : array_like of int, (n_neurons,), optional
        The cluster of each row and column, as row of the matrix that was merged into blocks.
        Blocks without a neuron are left out.
    ax : matplotlib.axes.Axes, optional
        Where to draw; the default is a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Ticks are at the middle of the blocks, with their numbers.

    Raises
    ------
    ImportError
        Without matplotlib.
    ValueError
        Another number of rows than clusters or labels.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, Fig. 7.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from fastvis.readouts.confusion import merge_blocks
    >>> from fastvis.readouts.plots import plot_confusion
    >>> confusion = [[1, 0.1, 0.8], [0.1, 1, 0.3], [0.8, 0.3, 1]]
    >>> ax = plot_confusion(confusion, merge_blocks(confusion))
    >>> ax.images[0].get_array()[0].tolist()
    [1.0, 0.8, 0.1]
    """
    confusion = getattr(confusion, "correlation", confusion)
    confusion = check_array(confusion, "confusion", ndim=2, axes="(K, K)")
    labels = _check_rows(confusion, blocks, labels)
    place = np.argsort(blocks.order)
    order = np.argsort(place[labels], kind="stable")
    block = blocks.labels[labels][order]
    shown = confusion[order][:, order]
    ax = _axes(ax)
    ax.imshow(shown, cmap="viridis", vmin=min(0, shown.min()), vmax=shown.max())
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    ends = np.append(starts[1:], len(block))
    for low, high in zip(starts - 0.5, ends - 0.5):
        ax.plot([low, high, high, low, low], [low, low, high, high, low], color="red")
    ax.set_xticks((starts + ends - 1) / 2, block[starts])
    ax.set_yticks((starts + ends - 1) / 2, block[starts])
    ax.set(xlim=(-0.5, len(block) - 0.5), ylim=(len(block) - 0.5, -0.5), xlabel="block")
    return ax


def _axes(ax):
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib. Run: pip install fastvis[plot]") from error
    return plt.subplots()[1]


def _check_pair(first, second):
    """Two readouts (n_features, n_orientations)."""
    axes = "(n_orientations,) or (n_features, n_orientations)"
    first = check_array(first, "first", ndim=(1, 2), axes=axes)
    second = check_array(second, "second", ndim=(1, 2), axes=axes)
    if first.shape != second.shape:
        raise ValueError(
            f"first and second must have the same shape; got {first.shape} and {second.shape}."
        )
    return np.atleast_2d(first), np.atleast_2d(second)


def _check_points(points, name):
    points = check_array(points, name, ndim=2, axes="(n, 2)")
    if points.shape[1] != 2:
        raise ValueError(
            f"{name} must have 2 columns; got shape {points.shape}. Use fastvis.readouts.embed."
        )
    return points


def _check_rows(confusion, blocks, labels):
    """The cluster of each row."""
    K = len(blocks.labels)
    n = K if labels is None else np.size(labels)
    if confusion.shape != (n, n):
        what = "clusters in blocks" if labels is None else "labels"
        raise ValueError(
            f"confusion must be {n} x {n}, by the number of {what}; got shape {confusion.shape}."
        )
    if labels is None:
        return np.arange(K)
    labels = check_labels(labels, n)
    if labels.max() >= K:
        raise ValueError(
            f"labels must be less than {K}, the clusters in blocks; got {labels.max()}."
        )
    return labels
