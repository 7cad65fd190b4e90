"""Figures: what is drawn, by the data in the axes."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from fastvis.readouts import von_mises_rotation
from fastvis.readouts.confusion import ClusterConfusion, merge_blocks
from fastvis.readouts.plots import (
    plot_confusion,
    plot_distance_curves,
    plot_embedding,
    plot_readouts,
)


@pytest.fixture(autouse=True)
def _figures():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def correlation(rng):
    """Of clusters in planted blocks 2, 1, 0, 0, 1, 0."""
    signals = rng.normal(size=(3, 200))[[2, 1, 0, 0, 1, 0]]
    return np.corrcoef(signals + 0.5 * rng.normal(size=(6, 200)))


def outlines(ax):
    """Corners (low, high) of the squares."""
    for line in ax.lines:
        np.testing.assert_array_equal(np.sort(line.get_xdata()), np.sort(line.get_ydata()))
    return [(line.get_xdata().min(), line.get_xdata().max()) for line in ax.lines]


def test_readouts_are_sorted_and_separated(rng):
    readouts = rng.normal(size=(5, 3, 4))
    labels = [2, 0, 2, 0, 5]
    ax = plot_readouts(readouts, labels)
    image = ax.images[0]
    np.testing.assert_array_equal(image.get_array(), readouts[[1, 3, 0, 2, 4]].reshape(5, 12))
    assert image.get_clim() == (-np.abs(readouts).max(), np.abs(readouts).max())
    vertical = [line.get_xdata()[0] for line in ax.lines if np.ptp(line.get_xdata()) == 0]
    horizontal = [line.get_ydata()[0] for line in ax.lines if np.ptp(line.get_ydata()) == 0]
    assert (vertical, horizontal) == ([3.5, 7.5], [1.5, 3.5])
    ax.figure.canvas.draw()


def test_readouts_without_labels(rng):
    readouts = rng.normal(size=(5, 3, 4))
    flat = readouts.transpose(0, 2, 1).reshape(5, 12)
    ax = plot_readouts(flat, n_orientations=4, layout="orientation")
    np.testing.assert_array_equal(ax.images[0].get_array(), readouts.reshape(5, 12))
    assert len(ax.lines) == 2
    plot_readouts(0 * readouts, ax=ax).figure.canvas.draw()


@pytest.mark.parametrize("shape", [(8,), (2, 8)])
def test_distance_curves(rng, shape):
    first, second = rng.normal(size=(2, *shape))
    ax = plot_distance_curves(first, second, temperatures=(500, 0, 3))
    curves = {line.get_label(): line.get_ydata() for line in ax.lines}
    angles = ax.lines[0].get_xdata()
    assert angles[[0, -1]] == pytest.approx([0, 2 * np.pi])
    bins = np.linspace(0, len(angles) - 1, 9).astype(int)
    by_roll = [np.linalg.norm(np.roll(second, -s, axis=-1) - first) for s in range(9)]
    np.testing.assert_allclose(curves["linear interpolation"][bins], by_roll)
    np.testing.assert_allclose(curves["T = 500"][bins], by_roll)
    # between two bins interpolation is the mean of two shifts, the relaxation too
    half = np.linalg.norm((second + np.roll(second, -1, axis=-1)) / 2 - first)
    middle = (bins[0] + bins[1]) // 2
    assert curves["linear interpolation"][[middle, middle + 1]].mean() == pytest.approx(half, 0.02)
    mean = second.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(curves["T = 0"], np.linalg.norm(mean - first))
    turned = von_mises_rotation(second.reshape(1, -1, 8), angles[100], 3)[0]
    assert curves["T = 3"][100] == pytest.approx(np.linalg.norm(turned - first))
    # darker for higher temperatures, black for interpolation
    colors = {line.get_label(): to_rgb(line.get_color()) for line in ax.lines}
    assert sum(colors["T = 0"]) > sum(colors["T = 3"]) > sum(colors["T = 500"])
    assert colors["linear interpolation"] == (0, 0, 0)
    ax.figure.canvas.draw()


def test_embedding_shows_clusters_and_centers(rng):
    points = rng.normal(size=(200, 2))
    labels = np.arange(200) % 100
    ax = plot_embedding(points, labels, centers=points[:3])
    neurons, stars = ax.collections
    np.testing.assert_array_equal(neurons.get_offsets(), points)
    np.testing.assert_array_equal(stars.get_offsets(), points[:3])
    ax.figure.canvas.draw()
    colors = neurons.get_facecolors()
    np.testing.assert_array_equal(colors[:100], colors[100:])
    assert len(np.unique(colors, axis=0)) > 90
    # clusters that follow each other are not alike
    assert np.abs(np.diff(colors[:100], axis=0)).max(axis=1).min() > 0.5
    assert len(plot_embedding(points, labels).collections) == 1


def test_confusion_of_clusters(correlation):
    blocks = merge_blocks(correlation)
    ax = plot_confusion(ClusterConfusion(correlation, 0 * correlation, np.arange(6)), blocks)
    shown = ax.images[0].get_array()
    np.testing.assert_array_equal(shown, correlation[blocks.order][:, blocks.order])
    assert outlines(ax) == [(-0.5, 2.5), (2.5, 4.5), (4.5, 5.5)]
    # each square is what its block's clusters have in common
    assert min(shown[:3, :3].min(), shown[3:5, 3:5].min()) > 0.5 > shown[:3, 3:].max()
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    assert ax.get_xlim() == (-0.5, 5.5)
    ax.figure.canvas.draw()


def test_confusion_of_neurons(correlation, rng):
    blocks = merge_blocks(correlation)
    clusters = np.array([2, 0, 3, 2, 1, 0, 3])  # none of clusters 4 and 5
    activities = rng.random((7, 7))
    ax = plot_confusion(activities, blocks, clusters)
    place = {int(cluster): k for k, cluster in enumerate(blocks.order)}
    order = sorted(range(7), key=lambda neuron: place[clusters[neuron]])
    np.testing.assert_array_equal(ax.images[0].get_array(), activities[order][:, order])
    assert outlines(ax) == [(-0.5, 3.5), (3.5, 4.5), (4.5, 6.5)]
    # without the neurons of a block, its number is left out
    ax = plot_confusion(activities[:4, :4], blocks, [1, 0, 1, 4])
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["1", "2"]
    assert outlines(ax) == [(-0.5, 2.5), (2.5, 3.5)]


def test_axes_are_taken(rng, correlation):
    _, axes = plt.subplots(2, 2)
    axes = axes.ravel()
    n_figures = len(plt.get_fignums())
    drawn = [
        plot_readouts(rng.normal(size=(3, 2, 4)), ax=axes[0]),
        plot_distance_curves([0, 1, 0], [1, 0, 0], ax=axes[1]),
        plot_embedding([[0, 1]], [0], ax=axes[2]),
        plot_confusion(correlation, merge_blocks(correlation), ax=axes[3]),
    ]
    assert all(a is b for a, b in zip(drawn, axes))
    assert len(plt.get_fignums()) == n_figures


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install fastvis\[plot\]"):
        plot_embedding([[0, 1]], [0])


BLOCKS = merge_blocks(np.eye(3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plot_readouts(np.ones((3, 8))), ValueError, "readouts must have 3 dimensions"),
        (lambda: plot_readouts(np.ones((3, 1, 8)), [0, 1]), ValueError, "labels must have one"),
        (lambda: plot_distance_curves([0, 1], [0, 1, 2]), ValueError, "must have the same shape"),
        (lambda: plot_distance_curves([0, 1], [[[0, 1]]]), ValueError, "second must have 1 or 2"),
        (lambda: plot_distance_curves([0, 1], [1, 0], [-1]), ValueError, "temperatures must be a"),
        (lambda: plot_distance_curves([0, 1], [1, 0], 5), ValueError, "temperatures must have 1 d"),
        (lambda: plot_embedding([[0, 1, 2]], [0]), ValueError, "embedding must have 2 columns"),
        (lambda: plot_embedding([[0, 1]], [0, 1]), ValueError, "labels must have one value for"),
        (lambda: plot_embedding([[0, 1]], [0], [[1]]), ValueError, "centers must have 2 columns"),
        (lambda: plot_confusion(np.eye(4), BLOCKS), ValueError, "confusion must be 3 x 3, by the"),
        (lambda: plot_confusion(np.eye(4), BLOCKS, [0]), ValueError, "by the number of labels"),
        (lambda: plot_confusion(np.eye(1), BLOCKS, [3]), ValueError, "labels must be less than 3"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
    assert not plt.get_fignums()
