"""Dead leaves: stationarity against the closed form, what is drawn, streams, bad input."""

import numpy as np
import pytest

from fastvis._kernels import leaves as kernel
from fastvis._kernels import threads
from fastvis._kernels.leaves import reference
from fastvis.scenes import DeadLeaves, PowerLaw, Scenes, ScenesWriter, Uniform, composite


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
    assert PowerLaw(2, 20, 1).quantile(np.array(0.5)) == pytest.approx(np.sqrt(40))


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
        ((9, 5.0), {"color": [(0, 0, 300)]}, "color must have rows of three"),
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


def test_bad_laws():
    with pytest.raises(ValueError, match="low must be a finite number > 0"):
        PowerLaw(0, 3)
    with pytest.raises(ValueError, match="high must be a finite number >= 5"):
        Uniform(5, 3)


def test_leaves_that_never_cover_the_image(monkeypatch):
    monkeypatch.setattr("fastvis.scenes.dead_leaves.MAX_LEAVES", 500)
    with pytest.raises(ValueError, match="radius must be large enough to cover the image"):
        DeadLeaves(60, 1.0).sample(1, rng=0)
