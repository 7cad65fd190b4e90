"""Sprites: images agree with shapes, order and table; the data sets of the paper; bad input."""

import numpy as np
import pytest

from fastvis._kernels import threads
from fastvis.scenes import composite, sprites
from fastvis.scenes.toys import COLORS, LEAST

KINDS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"colors": "random", "n_objects": (1, 5), "rotated": True},
        {"size": (40, 90), "n_objects": 4},
    ],
)


@KINDS
def test_images_are_composites_of_shapes_in_order(options):
    scenes = sprites(20, rng=0, **options)
    for i in range(20):
        order = scenes.order[i][scenes.order[i] >= 0]
        assert sorted(order) == np.flatnonzero(scenes.present[i]).tolist()
        background = scenes.images[i][scenes.labels[i] == 0][0]
        everything = np.ones((1, *scenes.labels[i].shape), bool)
        shapes = np.concatenate([everything, scenes.shapes[i][order]])
        colors = np.concatenate([background[None], scenes.table["color"][i][order]])
        expected = composite(shapes, colors.astype(np.uint8))
        np.testing.assert_array_equal((255 * expected.image).round(), scenes.images[i])
        names = np.concatenate([[0], order + 1])
        np.testing.assert_array_equal(names[expected.regions.argmax(axis=0)], scenes.labels[i])


@KINDS
def test_shapes_are_those_of_the_table(options):
    scenes = sprites(20, rng=1, **options)
    height, width = scenes.labels.shape[1:]
    y, x = np.mgrid[:height, :width]
    for i, k in np.argwhere(scenes.present):
        radius, angle = scenes.table["radius"][i, k], scenes.table["angle"][i, k]
        dy, dx = y - scenes.table["y"][i, k], x - scenes.table["x"][i, k]
        u, v = dx * np.cos(angle) - dy * np.sin(angle), dx * np.sin(angle) + dy * np.cos(angle)
        name = scenes.metadata["shapes"][scenes.table["shape"][i, k]]
        if name == "circle":
            expected = u**2 + v**2 <= radius**2
        elif name == "square":
            expected = np.maximum(abs(u), abs(v)) <= radius / np.sqrt(2)
        else:  # a point up
            expected = (v <= radius / 2) & (abs(u) <= (v + radius) / np.sqrt(3))
        np.testing.assert_array_equal(scenes.shapes[i, k], expected)
        # wholly inside
        area = {"circle": np.pi, "square": 2, "triangle": 3 * np.sqrt(3) / 4}[name] * radius**2
        assert scenes.shapes[i, k].sum() == pytest.approx(area, rel=0.15, abs=6)


def test_objects_lie_inside_and_all_is_drawn_independently():
    scenes = sprites(3000, size=(20, 31), colors="random", n_objects=2, rotated=True, rng=0)
    table = scenes.table
    y, x, r = table["y"], table["x"], table["radius"]
    down, right = (y - r) / (19 - 2 * r), (x - r) / (30 - 2 * r)
    assert min(down.min(), right.min()) >= 0
    assert max(down.max(), right.max()) <= 1
    background = [im[la == 0][0] for im, la in zip(scenes.images, scenes.labels)]
    fields = [down, right, r, table["angle"], table["shape"], *np.moveaxis(table["color"], 2, 0)]
    values = [f[:, k].astype(float) for f in fields for k in range(2)]
    values += [*np.array(background, float).T, scenes.order[:, 0].astype(float)]
    assert min(np.ptp(v) for v in values) > 0
    assert np.abs(np.corrcoef(values) - np.eye(len(values))).max() < 4.5 / np.sqrt(3000)


def test_the_smallest_objects_have_a_pixel():
    for shape, least in LEAST.items():
        for rotated in (False, True):
            options = {"shapes": shape, "radius": (least, least), "rotated": rotated}
            scenes = sprites(3000, size=9, rng=0, **options)
            assert scenes.shapes.any(axis=(2, 3)).all()


def test_the_papers_class_colored_data():
    scenes = sprites(500, rng=0)
    np.testing.assert_array_equal(scenes.table["shape"], np.tile(range(3), (500, 1)))
    np.testing.assert_array_equal(scenes.table["color"][7], list(COLORS.values()))
    background = scenes.images[scenes.labels == 0]
    assert background.max() == 127
    assert background.min() == 0
    share = np.mean(scenes.order[:, 0][:, None] == range(3), axis=0)
    np.testing.assert_allclose(share, 1 / 3, atol=0.1)  # any depth order


def test_the_papers_randomly_colored_data():
    color = sprites(500, colors="random", rng=0).table["color"]
    assert color.min() == 128
    assert color.max() == 255
    assert np.std(color.astype(float)) == pytest.approx(128 / np.sqrt(12), rel=0.05)


def test_min_contrast():
    scenes = sprites(300, colors="random", n_objects=4, min_contrast=40, rng=0)
    background = np.array([im[la == 0][0] for im, la in zip(scenes.images, scenes.labels)])
    colors = np.concatenate([background[:, None], scenes.table["color"]], axis=1).astype(int)
    gap = np.abs(colors[:, :, None] - colors[:, None]).max(axis=-1)
    assert gap[:, np.tri(5, k=-1, dtype=bool)].min() >= 40
    with pytest.raises(ValueError, match="min_contrast must leave room for 4 colors"):
        sprites(5, colors="random", n_objects=4, min_contrast=200, rng=0)


def test_how_often_classes_are_drawn():
    table = sprites(2000, n_objects=3, frequencies=(6, 3, 1), rng=0).table
    share = np.bincount(table["shape"].ravel()) / table["shape"].size
    np.testing.assert_allclose(share, [0.6, 0.3, 0.1], atol=0.02)


def test_numbers_of_objects():
    scenes = sprites(600, n_objects=(2, 4), rng=0)
    assert set(scenes.n_objects) == {2, 3, 4}
    np.testing.assert_allclose(np.bincount(scenes.n_objects)[2:] / 600, 1 / 3, atol=0.07)


def test_scene_i_is_the_same_in_any_batch(monkeypatch):
    options = {"colors": "random", "n_objects": (1, 4), "min_contrast": 40}
    many = sprites(50, rng=3, **options)
    for n in (1, 7):
        monkeypatch.setattr(threads, "thread_count", lambda n=n: n)
        few = sprites(n, rng=3, **options)
        for name in ("images", "labels", "shapes", "order"):
            np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[:n])


def test_a_generator_goes_on():
    rng, whole = np.random.default_rng(3), sprites(6, rng=3, colors="random", n_objects=2)
    pieces = [sprites(n, rng=rng, colors="random", n_objects=2) for n in (1, 3, 2)]
    for name in ("images", "labels", "shapes", "order"):
        joined = np.concatenate([getattr(piece, name) for piece in pieces])
        np.testing.assert_array_equal(joined, getattr(whole, name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be an integer >= 1"),
        ({"size": 0}, r"size\[0\] must be an integer >= 1"),
        ({"shapes": ()}, "shapes must name at least one class"),
        ({"shapes": ("star",)}, r"shapes\[0\] must be one of"),
        ({"radius": (5, 40)}, "radius must be at most 31.5, so that objects lie inside"),
        ({"radius": (5, 3)}, r"radius\[1\] must be a finite number >= 5"),
        ({"radius": 5}, "radius must be .low, high."),
        ({"n_objects": 0}, "n_objects must be an integer >= 1"),
        ({"n_objects": (3, 2)}, "n_objects must be an integer >= 3"),
        ({"colors": "red"}, "colors must be one of"),
        ({"radius": (5, 6, 7)}, "radius must be .low, high.; got .5, 6, 7."),
        ({"radius": (1.4, 5)}, "radius must be at least 1.5, so that each .* got 1.4"),
        ({"radius": (0.7, 5), "shapes": "circle"}, "radius must be at least 0.75, .* got 0.7"),
        ({"size": 10}, "radius must be at least 1.5, so that each .* got 1.4"),
        ({"n_objects": (1, 2, 3)}, "n_objects must be an int or .low, high.; got .1, 2, 3."),
        ({"shapes": 5}, "shapes must be a sequence of names; got 5"),
        ({"frequencies": 5, "n_objects": 2}, "frequencies must have 1 dimensions .classes,."),
        ({"frequencies": (1, -1, 1), "n_objects": 2}, "none below zero and not all zero; got .1"),
        ({"min_contrast": 40}, "min_contrast must come with colors='random'.* got 40"),
        ({"frequencies": (1, 1, 1)}, "frequencies must come with n_objects"),
        ({"frequencies": (1, 1), "n_objects": 2}, "frequencies must have one number for each"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sprites(**{"n": 1, **options})
