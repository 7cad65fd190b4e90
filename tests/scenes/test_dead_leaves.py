"""Dead leaves: stationarity against the closed form, what is drawn, streams, bad input."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from fastvis._kernels import leaves as kernel
from fastvis._kernels import threads
from fastvis._kernels.leaves import reference
from fastvis.scenes import DeadLeaves, PowerLaw, Scenes, ScenesWriter, Uniform, composite
from fastvis.scenes.dead_leaves import LEAVES, MAX_LEAVES, _Canvas


def overlap(r, h):
    """Area in which the centers of disks lie that hold both of two points at distance h."""
    h = np.minimum(h, 2 * r)
    return 2 * r**2 * np.arccos(h / 2 / r) - h / 2 * np.sqrt(4 * r**2 - h**2)


def same_leaf(radii, h):
    """Probability that two points see the same leaf: of the leaves that hold one, those of both."""
    both, one = np.mean(overlap(radii, h)), np.mean(np.pi * radii**2)
    return both / (2 * one - both)


# The model


@pytest.mark.parametrize("radius", [6.0, PowerLaw(2, 20), Uniform(3, 12)])
def test_two_points_see_the_same_leaf_as_often_as_in_theory(radius):
    # at the border as in the middle: leaves lie outside the image, too
    n = 1500
    labels = DeadLeaves(33, radius).sample(n, rng=0).labels
    quantiles = (np.arange(20000) + 0.5) / 20000
    radii = np.full(1, radius) if isinstance(radius, float) else radius.quantile(quantiles)
    for h in (1, 3, 8):
        expected = same_leaf(radii, float(h))
        for row, column in ((0, 0), (16, 12), (32, 32 - h)):
            for pair in ((labels[:, row, column], labels[:, row, column + h]),):
                share = np.mean(pair[0] == pair[1])
                assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / n)


@pytest.mark.parametrize("leaf", [*LEAVES, "masks"])
def test_the_border_is_as_the_middle(rng, leaf):
    radius = Uniform(4, 10)
    if leaf == "masks":
        leaf, radius = rng.random((2, 4, 15)) < 0.7, None
    n = 3000
    labels = DeadLeaves((13, 15), radius, leaf=leaf).sample(n, rng=1).labels
    for down, right in ((0, 2), (2, 0)):
        same = labels[:, : 13 - down, : 15 - right] == labels[:, down:, right:]
        middle = same[:, 4:-4, 4:-4].mean(axis=(1, 2))
        for line in (same[:, 0], same[:, -1], same[:, :, 0], same[:, :, -1]):
            difference = line.mean(axis=1) - middle
            assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(n)


# Leaves as the docstring has them, one in each of many images

LARGE = Uniform(9, 18)


def one_leaf_each(leaf, radius=LARGE, n=400):
    """Whole shapes of leaves with many pixels in the image, and their rows of the table."""
    scenes = DeadLeaves((50, 53), radius, leaf=leaf, n_leaves=1).sample(n, rng=2, shapes=True)
    large = scenes.shapes[:, 0].sum(axis=(1, 2)) > 150
    table = {name: values[large, 0] for name, values in scenes.table.items()}
    return scenes.shapes[large, 0], table


def corners(radius, turns):
    """Corners, (dy, dx), at angles that turn counter-clockwise on the screen."""
    return np.stack([-radius * np.sin(turns), radius * np.cos(turns)], axis=1)


def of_aspect(leaf, r, angle, aspect, center):
    """An ellipse, or a rectangle of that circumscribed circle, with its longer axis at angle."""
    if leaf == "ellipse":
        return reference.ellipse(center, r, aspect * r, angle, 50, 53)
    half = np.arctan(aspect) * np.array([1, -1, 1, -1]) + np.array([0, np.pi, np.pi, 2 * np.pi])
    return reference.polygon(center, corners(r, angle + half), 50, 53)


def with_corners(leaf, r, angle, n, center):
    if leaf == "star":
        length = np.tile([r, r / 2], n)
        turns = angle + np.pi * np.arange(2 * n) / n
        return reference.polygon(center, corners(length, turns), 50, 53)
    turns = angle + 2 * np.pi * np.arange(n) / n
    return reference.polygon(center, corners(r, turns), 50, 53)


def assert_uniform(values, low, high):
    """The largest distance of distributions (Kolmogorov, 0.1 %)."""
    values = np.sort((np.asarray(values) - low) / (high - low))
    n = len(values)
    assert np.abs(values - (np.arange(n) + 0.5) / n).max() < 1.95 / np.sqrt(n) + 0.5 / n


@pytest.mark.parametrize("leaf", ["ellipse", "rectangle"])
def test_leaves_with_aspect_ratios(leaf):
    shapes, table = one_leaf_each(leaf)
    aspects, found = np.linspace(0.3, 1, 71), []
    for k, shape in enumerate(shapes):
        y, x, r, angle = (table[name][k] for name in ("y", "x", "radius", "angle"))
        wrong = [(of_aspect(leaf, r, angle, a, (y, x)) != shape).sum() for a in aspects]
        assert min(wrong) < 0.05 * shape.sum()  # aspects are tried in steps
        found.append(aspects[np.argmin(wrong)])
    assert min(found) < 0.4  # small ones have too few pixels to be among these
    assert max(found) > 0.98
    large = table["radius"] > 15
    assert_uniform(table["angle"], 0, 2 * np.pi)
    assert abs(np.mean(np.array(found)[large]) - 0.65) < 0.08


@pytest.mark.parametrize("leaf", ["polygon", "star"])
def test_leaves_with_corners(leaf):
    shapes, table = one_leaf_each(leaf, n=600)
    found = []
    for k, shape in enumerate(shapes):
        y, x, r, angle = (table[name][k] for name in ("y", "x", "radius", "angle"))
        of = [np.array_equal(with_corners(leaf, r, angle, n, (y, x)), shape) for n in range(3, 9)]
        assert sum(of) == 1
        found.append(3 + np.argmax(of))
    share = np.bincount(found, minlength=9)[3:] / len(found)
    assert share.min() > 0.05
    assert_uniform(table["angle"], 0, 2 * np.pi)


def test_disks_and_masks_are_not_turned(rng):
    shapes, table = one_leaf_each("disk", n=50)
    for k, shape in enumerate(shapes):
        center, r = (table["y"][k], table["x"][k]), table["radius"][k]
        np.testing.assert_array_equal(shape, reference.ellipse(center, r, r, 0.0, 50, 53))
    assert (table["angle"] == 0).all()
    masks = rng.random((3, 22, 31)) < 0.7
    shapes, table = one_leaf_each(masks, None, n=200)
    found = []
    for k, shape in enumerate(shapes):
        center = (table["y"][k], table["x"][k])
        of = [np.array_equal(reference.mask(center, mask, 50, 53), shape) for mask in masks]
        assert sum(of) == 1
        found.append(np.argmax(of))
    assert np.bincount(found, minlength=3).min() > 0.2 * len(found)


def test_places_radii_and_colors_are_independent():
    scenes = DeadLeaves(30, Uniform(2, 9), leaf="star", n_leaves=40).sample(100, rng=0)
    table = {name: values[scenes.present] for name, values in scenes.table.items()}
    inside = (abs(table["y"] - 14.5) < 15) & (abs(table["x"] - 14.5) < 15)  # else large ones
    for name, low, high in (("y", -0.5, 29.5), ("x", -0.5, 29.5), ("radius", 2, 9)):
        assert_uniform(table[name][inside], low, high)
    assert_uniform((table["color"][:, 1] + 0.5) / 256, 0, 1)
    rows = [table[name][inside] for name in ("y", "x", "radius", "angle")]
    correlation = np.corrcoef([*rows, *table["color"][inside].T])
    assert np.abs(correlation - np.eye(7)).max() < 4 / np.sqrt(inside.sum())


def test_every_pixel_is_covered():
    for leaf in ("disk", "ellipse", "rectangle", "polygon", "star"):
        assert DeadLeaves(40, PowerLaw(2, 20), leaf=leaf).sample(3, rng=0).labels.min() > 0


def test_radii_of_a_power_law():
    law = PowerLaw(2, 20, 3)
    radii = law.quantile(np.random.default_rng(0).random(200_000))
    assert 2 <= radii.min() < radii.max() <= 20
    edges = np.geomspace(2, 20, 8)
    share = np.histogram(radii, edges)[0] / len(radii)
    expected = np.diff(-(edges**-2.0)) / (2**-2.0 - 20**-2.0)
    np.testing.assert_allclose(share, expected, atol=0.005)


@pytest.mark.parametrize(
    "law", [(10, 300, 3), (10, 300, 16), (1e-5, 1000, 3), (2, 20, 300), (2, 20, 0), (5, 5, 3)]
    + [(2, 20, exponent) for exponent in (1, 1 + 1e-9, 1 - 1e-12, 0.9, 1.5)],
)  # fmt: skip
def test_quantiles_of_power_laws_to_the_last_digits(law):
    u = [0, 1e-17, 1e-3, 0.3, 0.5, 0.999, 1 - 2**-30, 1 - 2**-53, 1]
    low, high, exponent = map(Decimal, law)
    with localcontext(prec=60):
        span, power = (high / low).ln(), 1 - exponent
        logs = [
            x * span if power == 0 else (1 - x + x * (power * span).exp()).ln() / power
            for x in map(Decimal, u)
        ]
        expected = [float(low * log.exp()) for log in logs]
    radii = PowerLaw(*law).quantile(np.array(u))
    np.testing.assert_allclose(radii, expected, rtol=2e-14)
    assert radii.max() <= law[1]


def test_seen_disks_are_those_of_the_table():
    scenes = DeadLeaves((30, 47), PowerLaw(2, 15)).sample(3, rng=0)
    for i in range(3):
        table = {name: values[i][scenes.present[i]] for name, values in scenes.table.items()}
        disks = [
            reference.ellipse((y, x), r, r, 0.0, 30, 47)
            for y, x, r in zip(table["y"], table["x"], table["radius"])
        ]
        np.testing.assert_array_equal(scenes.labels[i], reference.paint(np.stack(disks)))
        np.testing.assert_array_equal(scenes.images[i], table["color"][scenes.labels[i] - 1])
        np.testing.assert_array_equal(
            scenes.order[i][scenes.order[i] >= 0], np.arange(len(disks))[::-1]
        )


def test_masks_and_a_background():
    masks = np.zeros((2, 5, 5), bool)
    masks[0, 2], masks[1, :, 2] = True, True
    model = DeadLeaves(50, None, leaf=masks, n_leaves=20, color=[(9, 8, 7)], background=(1, 2, 3))
    scenes = model.sample(4, rng=0)
    assert (scenes.labels == 0).any()
    assert (scenes.images[scenes.labels == 0] == (1, 2, 3)).all()
    assert (scenes.images[scenes.labels > 0] == (9, 8, 7)).all()
    assert scenes.n_objects.max() <= 20


def test_whole_shapes_and_who_hides_whom():
    scenes = DeadLeaves((30, 47), PowerLaw(3, 15), leaf="star").sample(3, rng=0, shapes=True)
    for i in range(3):
        shapes = scenes.shapes[i][scenes.present[i]]
        np.testing.assert_array_equal(scenes.labels[i], reference.paint(shapes))
        k = np.arange(len(shapes))
        share = np.einsum("iyx,jyx->ij", shapes.astype(int), shapes.astype(int)) > 0
        expected = share & (k[:, None] < k)
        np.testing.assert_array_equal(scenes.occlusion()[i][: len(k), : len(k)], expected)
        assert not scenes.shapes[i][~scenes.present[i]].any()


def test_whole_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match="shapes must fit into 4.3 GB; .* leaves in 1 image"):
        DeadLeaves(3000, PowerLaw(2, 300), n_leaves=9000).sample(1, rng=0, shapes=True)


# Textures


@pytest.mark.parametrize("leaf", ["disk", "star", "masks"])
def test_textured_leaves_show_crops_of_their_patches(rng, leaf):
    patches = rng.integers(0, 256, (3, 21, 29, 3), dtype=np.uint8)
    radius = PowerLaw(2, 15)
    if leaf == "masks":
        leaf, radius = rng.random((2, 9, 8)) < 0.7, None
    model = DeadLeaves((40, 53), radius, leaf=leaf, texture=patches, n_leaves=150)
    scenes = model.sample(4, rng=0)
    assert "color" not in scenes.table
    i, row, column = np.nonzero(scenes.labels)
    k = scenes.labels[i, row, column] - 1
    crop = scenes.table["crop"][i, k]
    y, x = (row + crop[:, 0]) % 21, (column + crop[:, 1]) % 29
    expected = patches[scenes.table["texture"][i, k], y, x]
    np.testing.assert_array_equal(scenes.images[i, row, column], expected)
    assert (scenes.images[scenes.labels == 0] == 0).all()
    drawn = np.bincount(scenes.table["texture"][scenes.present], minlength=3)
    assert drawn.min() > 0.25 * drawn.sum()


@pytest.mark.parametrize("antialias", [False, True])
def test_leaves_that_fit_into_a_patch_show_no_seam(antialias):
    # disks of 4 pixels in a patch whose values grow by 1 from row to row
    patch = np.broadcast_to(np.arange(12, dtype=np.uint8)[:, None, None], (12, 12, 3))
    model = DeadLeaves(60, 4.0, texture=patch[None], antialias=antialias, n_leaves=1)
    scenes = model.sample(40, rng=0)
    for labels, image, crop in zip(scenes.labels, scenes.images, scenes.table["crop"][:, 0]):
        rows = np.flatnonzero(labels.any(axis=1))
        rows = rows[1:-1] if antialias else rows  # the first and the last mix with the background
        middle = [np.flatnonzero(labels[row])[labels[row].sum() // 2] for row in rows]
        np.testing.assert_array_equal(image[rows, middle, 0], rows + crop[0])
    assert len(np.unique(scenes.table["crop"][:, 0] % 12)) > 1


# Anti-aliasing


def covered(leaves, height, width):
    """How much of each pixel the one leaf covers."""
    veil, sums = (
        np.ones((1, height, width), np.float32),
        np.zeros((1, height, width, 3), np.float32),
    )
    kernel.blend(leaves, veil, sums, np.arange(1), colors=np.full((1, 3), 200, np.uint8))
    np.testing.assert_allclose(sums[0], 200 * np.repeat(1 - veil[0, :, :, None], 3, 2), atol=1e-3)
    return 1 - veil[0].astype(float)


def fine(shape, s):
    """Means over s x s small pixels."""
    height, width = np.array(shape.shape) // s
    return shape.reshape(height, s, width, s).mean(axis=(1, 3))


def star(rng, radius, n, notch):
    k = np.arange(2 * n)
    turn = np.pi * k / n + rng.uniform(0, 9)
    length = radius * np.where(k % 2, notch, 1)
    return length[:, None] * np.stack([-np.sin(turn), np.cos(turn)], axis=1)


@pytest.mark.parametrize("radius", [0.1, 0.3, 0.5, 1, 3.3, 10])
def test_areas_of_a_disk_sum_to_its_area(rng, radius):
    center = np.array([[11.5, 14.5]]) + rng.uniform(-1, 1, 2)
    disk = kernel.ellipses(center, *np.full((2, 1), float(radius)), np.zeros(1))
    assert covered(disk, 24, 31).sum() == pytest.approx(np.pi * radius**2, rel=1e-4)


def test_areas_of_polygons_sum_to_their_areas(rng):
    for n in range(3, 9):
        corners = star(rng, 9, n, rng.choice([0.3, 0.5, 1]))
        (y, x), (y1, x1) = corners.T, np.roll(corners, -1, axis=0).T
        area = covered(kernel.polygons(rng.uniform(10, 13, (1, 2)), corners[None]), 24, 24).sum()
        assert area == pytest.approx(abs(np.sum(x * y1 - x1 * y)) / 2, rel=1e-4)


def test_areas_in_pixels_that_are_known():
    # the middle pixel holds the disk, or a quarter; squares on and between pixels
    half = np.array([0.5])
    disk = kernel.ellipses(np.array([[1.0, 1.0]]), half, half, 0 * half)
    np.testing.assert_allclose(
        covered(disk, 3, 3), np.pi / 4 * np.outer([0, 1, 0], [0, 1, 0]), atol=1e-6
    )
    disk = kernel.ellipses(np.array([[0.5, 0.5]]), 2 * half, 2 * half, 0 * half)
    np.testing.assert_allclose(covered(disk, 2, 2), np.full((2, 2), np.pi / 4), atol=1e-6)
    square = np.array([[[-1, -1], [-1, 1], [1, 1], [1, -1.0]]])
    for y, lines in ((1.5, [0, 1, 1, 0]), (1.25, [0.25, 1, 0.75, 0]), (-0.5, [1, 0, 0, 0])):
        expected = np.outer(lines, lines)
        leaf = kernel.polygons(np.array([[y, y]]), square)
        np.testing.assert_allclose(covered(leaf, 4, 4), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["ellipse", "polygon"])
def test_areas_are_those_of_many_small_pixels(rng, kind):
    height, width, s = 15, 20, 64
    for _ in range(20):
        center = rng.uniform(-2, [height + 2, width + 2])
        small = s * (center + 0.5) - 0.5
        if kind == "ellipse":
            a, b, angle = rng.uniform([0.2, 0.2, 0], [12, 12, 9])
            leaf = kernel.ellipses(center[None], *np.array([[a], [b], [angle]]))
            shape = reference.ellipse(small, a * s, b * s, angle, height * s, width * s)
        else:
            corners = star(rng, rng.uniform(0.3, 12), rng.integers(2, 9), rng.choice([0.4, 1]))
            leaf = kernel.polygons(center[None], corners[None])
            shape = reference.polygon(small, s * corners, height * s, width * s)
        np.testing.assert_allclose(covered(leaf, height, width), fine(shape, s), atol=0.01)


@pytest.mark.parametrize("leaf", ["disk", "masks"])
def test_layers_by_their_areas(rng, leaf):
    s, size, radius = 32, (20, 25), PowerLaw(2, 9)
    if leaf == "masks":
        leaf, radius = rng.random((2, 9, 8)) < 0.7, None
    options = {"leaf": leaf, "n_leaves": 12, "background": (9, 90, 200)}
    scenes = DeadLeaves(size, radius, antialias=True, **options).sample(3, rng=0)
    plain = DeadLeaves(size, radius, **options).sample(3, rng=0, shapes=True)
    np.testing.assert_array_equal(scenes.labels, plain.labels)
    for i in range(3):
        there = scenes.present[i]
        if radius is None:
            areas = plain.shapes[i][there].astype(float)
        else:
            y, x, r = (scenes.table[name][i][there] for name in ("y", "x", "radius"))
            disks = zip(s * (y + 0.5) - 0.5, s * (x + 0.5) - 0.5, s * r)
            disks = [reference.ellipse((y, x), r, r, 0.0, s * 20, s * 25) for y, x, r in disks]
            areas = np.stack([fine(disk, s) for disk in disks])
        layers = np.concatenate([np.ones((1, *size)), areas[::-1]])
        colors = np.concatenate([[[9, 90, 200]], scenes.table["color"][i][there][::-1]])
        expected = composite(layers, colors.astype(np.uint8)).image
        inner = np.s_[1:-1, 1:-1]  # in the others are leaves that hold no pixel's center
        np.testing.assert_allclose(scenes.images[i][inner], 255 * expected[inner], atol=3)


@pytest.mark.parametrize("leaf", ["disk", "ellipse", "rectangle", "polygon", "star"])
def test_labels_and_interiors_are_the_same_with_antialias(leaf):
    plain = DeadLeaves(50, PowerLaw(4, 25), leaf=leaf).sample(3, rng=0)
    scenes = DeadLeaves(50, PowerLaw(4, 25), leaf=leaf, antialias=True).sample(3, rng=0)
    np.testing.assert_array_equal(scenes.labels, plain.labels)
    n = plain.present.shape[1]
    first = scenes.table["radius"][:, :n][plain.present]
    np.testing.assert_array_equal(first, plain.table["radius"][plain.present])
    windows = np.lib.stride_tricks.sliding_window_view(plain.labels, (3, 3), axis=(1, 2))
    interior = (windows == windows[:, :, :, 1:2, 1:2]).all(axis=(3, 4))
    same = (scenes.images == plain.images).all(axis=3)[:, 1:-1, 1:-1]
    assert same[interior].mean() > 0.9  # corners narrower than a pixel may lie between centers
    assert same[~interior].mean() < 0.6  # of two pixels at a border, one is crossed by it


def test_nothing_shines_through_leaves():
    model = DeadLeaves(40, PowerLaw(2, 20), color=[(255, 255, 255)], antialias=True)
    assert (model.sample(10, rng=0).images == 255).all()


def test_as_much_is_covered_at_the_border_as_in_the_middle():
    # also by leaves that hold no pixel's center
    model = DeadLeaves(6, 0.7, n_leaves=10, color=[(255, 255, 255)], antialias=True)
    images = model.sample(8000, rng=0).images[..., 0] / 255
    extent = 6 + 2 * 0.7  # where centers lie
    expected = 1 - (1 - np.pi * 0.7**2 / extent**2) ** 10
    error = images.std(axis=0) / np.sqrt(8000)
    assert np.abs(images.mean(axis=0) - expected).max() < 4 * error.max()


# Streams


def test_image_i_is_the_same_in_any_batch(monkeypatch):
    model = DeadLeaves(40, PowerLaw(2, 20), leaf="star")
    many = model.sample(6, rng=3)
    for n in (1, 3):
        monkeypatch.setattr(threads, "thread_count", lambda n=n: n)
        few = model.sample(n, rng=3)
        np.testing.assert_array_equal(few.images, many.images[:n])
        np.testing.assert_array_equal(few.labels, many.labels[:n])
    assert not np.array_equal(many.labels[0], many.labels[1])
    assert not np.array_equal(model.sample(1, rng=4).labels, many.labels[:1])


@pytest.mark.parametrize("textured", [False, True])
def test_antialiased_images_are_the_same_in_any_batch(monkeypatch, rng, textured):
    patches = rng.integers(0, 256, (2, 9, 9, 3), dtype=np.uint8) if textured else None
    # several bands of rows, several chunks of leaves
    model = DeadLeaves((150, 20), PowerLaw(2, 20), leaf="star", antialias=True, texture=patches)
    many = model.sample(4, rng=3)
    for n in (1, 3):
        monkeypatch.setattr(threads, "thread_count", lambda n=n: n)
        np.testing.assert_array_equal(model.sample(n, rng=3).images, many.images[:n])


def test_a_generator_goes_on(tmp_path):
    model, rng = DeadLeaves(30, PowerLaw(2, 20)), np.random.default_rng(3)
    with ScenesWriter(tmp_path / "leaves.hdf5") as writer:
        for n in (1, 3, 2):
            writer.append(model.sample(n, rng))
    pieces, whole = Scenes.load(tmp_path / "leaves.hdf5"), model.sample(6, rng=3)
    for name in ("images", "labels", "present"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    for name, column in whole.table.items():
        there = whole.present
        np.testing.assert_array_equal(pieces.table[name][there], column[there])


def test_streams_can_be_entered_anywhere():
    seeds = np.random.default_rng(0).integers(0, 2**64, 4, dtype=np.uint64)
    u = kernel.uniforms(seeds, 0, 20_000)
    np.testing.assert_array_equal(kernel.uniforms(seeds[1:2], 100, 50), u[1:2, 100:150])
    assert 0 <= u.min() < u.max() < 1
    np.testing.assert_allclose(u.mean(axis=1), 0.5, atol=0.01)
    np.testing.assert_allclose(u.std(axis=1), np.sqrt(1 / 12), atol=0.005)
    correlation = np.corrcoef(np.concatenate([u, u[:, ::-1], np.roll(u, 1, axis=1)]))
    assert np.abs(correlation - np.eye(12)).max() < 0.04


def test_splitmix64():
    # the published generator, from seed 1234567, and its first outputs
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    u = kernel.uniforms(np.array([1234567], np.uint64), 0, 3)[0]
    np.testing.assert_array_equal(u, [(x >> 11) * 2.0**-53 for x in expected])


# Bad input


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 5.0), {}, r"size\[0\] must be an integer >= 1"),
        ((9, 0), {}, "radius must be a finite number > 0"),
        ((9, 5.0), {"n_leaves": 0}, "n_leaves must be an integer >= 1"),
        ((9, 5.0), {"leaf": "blob"}, "leaf must be one of"),
        ((9, 5.0), {"leaf": np.ones((1, 3, 3), bool)}, "radius must be None with masks"),
        ((9, None), {"leaf": np.zeros((1, 3, 3), bool)}, "leaf must have masks with at least one"),
        ((9, 5.0), {"color": [(0, 0, 300)]}, "color must have whole numbers of 0 to 255; got 300"),
        ((9, 5.0), {"color": [(0.5, 0, 1)]}, "color must have whole numbers .*; got 0.5. Floats"),
        ((9, 5.0), {"color": [(1, 2)]}, r"color must have shape .m, 3.; got .1, 2."),
        ((9, 5.0), {"background": (1, -2, 1)}, "background must have whole numbers .*; got -2"),
        ((9, 5.0), {"background": (0, 0.25, 1)}, r"background .* got 0.25. .*255 . background"),
        ((9, 5.0), {"background": 7}, "background must have 1 dimensions .3,."),
        ((9, 5.0), {"n_leaves": MAX_LEAVES + 1}, "n_leaves must be .* <= 10000000"),
        ((9, None), {"leaf": [[[True]], [[True], [True]]]}, "leaf must be an array"),
        ((9, 5.0), {"texture": [[[[1, 2, 3]]], [[[1]]]]}, "texture must be an array"),
        ((9, 5.0), {"color": "red"}, "color must be one of 'uniform'"),
        ((9, 5.0), {"texture": np.zeros((2, 9, 9, 3))}, "texture must be uint8 patches"),
        ((9, 5.0), {"texture": np.zeros((9, 9, 3), np.uint8)}, "texture must be uint8 patches"),
        (
            (9, 5.0),
            {"texture": np.zeros((1, 9, 9, 3), np.uint8), "color": [(1, 2, 3)]},
            "texture must come without color",
        ),
    ],
)
def test_bad_input(arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        DeadLeaves(*arguments, **options)


def test_whole_numbers_may_be_floats():
    model = DeadLeaves(9, 5.0, color=[(255.0, 0.0, 7.0)], background=[3.0, 2.0, 1.0], n_leaves=1)
    images = model.sample(20, rng=0).images
    assert set(map(tuple, images.reshape(-1, 3).tolist())) == {(255, 0, 7), (3, 2, 1)}


def test_bad_laws():
    with pytest.raises(ValueError, match="low must be a finite number > 0"):
        PowerLaw(0, 3)
    with pytest.raises(ValueError, match="high must be a finite number >= 5"):
        Uniform(5, 3)


def test_as_many_leaves_as_asked(monkeypatch):
    # those that fall when all is covered, too; exactly the most is not too many
    monkeypatch.setattr("fastvis.scenes.dead_leaves.MAX_LEAVES", 900)
    for n in (300, 900):
        n_objects = DeadLeaves(5, 40.0, n_leaves=n).sample(3, rng=0).n_objects
        assert 0.95 * n < n_objects.min()  # few lie outside the image
        assert n_objects.max() <= n


@pytest.mark.parametrize("options", [{}, {"antialias": True}, {"n_leaves": 1200}])
def test_large_samples_are_drawn_in_pieces(monkeypatch, options):
    # few images at once, and parts of the leaves of one
    model = DeadLeaves(16, PowerLaw(0.5, 6), leaf="star", **options)
    whole = model.sample(7, rng=0, shapes=True)
    assert whole.present.shape[1] > 300
    sizes, add = [], _Canvas.add

    def spy(self, at, leaves, *rest, **options):
        sizes.append(len(leaves.kinds))
        add(self, at, leaves, *rest, **options)

    monkeypatch.setattr(_Canvas, "add", spy)
    monkeypatch.setattr("fastvis.scenes.dead_leaves.AT_ONCE", 600)
    monkeypatch.setattr("fastvis.scenes.dead_leaves.SHAPES_AT_ONCE", 16 * 16 * 11)
    pieces = model.sample(7, rng=0, shapes=True)
    assert max(sizes) <= 600
    for name in ("images", "labels", "shapes", "order", "present"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    for name, column in whole.table.items():
        np.testing.assert_array_equal(pieces.table[name], column)


def test_leaves_that_never_cover_the_image(monkeypatch):
    monkeypatch.setattr("fastvis.scenes.dead_leaves.MAX_LEAVES", 500)
    with pytest.raises(ValueError, match="radius must be large enough to cover the image"):
        DeadLeaves(60, 1.0).sample(1, rng=0)
