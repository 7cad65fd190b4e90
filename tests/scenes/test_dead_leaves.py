"""Dead leaves: stationarity against the closed form, what is drawn, streams, bad input."""

import numpy as np
import pytest

from fastvis._kernels import leaves, threads
from fastvis._kernels.leaves import reference
from fastvis.scenes import DeadLeaves, PowerLaw, Uniform


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


def test_streams_can_be_entered_anywhere():
    seeds = np.random.default_rng(0).integers(0, 2**64, 4, dtype=np.uint64)
    u = leaves.uniforms(seeds, 0, 20_000)
    np.testing.assert_array_equal(leaves.uniforms(seeds[1:2], 100, 50), u[1:2, 100:150])
    assert 0 <= u.min() < u.max() < 1
    np.testing.assert_allclose(u.mean(axis=1), 0.5, atol=0.01)
    np.testing.assert_allclose(u.std(axis=1), np.sqrt(1 / 12), atol=0.005)
    correlation = np.corrcoef(np.concatenate([u, u[:, ::-1], np.roll(u, 1, axis=1)]))
    assert np.abs(correlation - np.eye(12)).max() < 0.04


def test_splitmix64():
    # the published generator, from seed 1234567, and its first outputs
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    u = leaves.uniforms(np.array([1234567], np.uint64), 0, 3)[0]
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
