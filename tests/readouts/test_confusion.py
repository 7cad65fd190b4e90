"""Confusion of clusters and of optimal images: closed forms, brute force, bad input."""

from itertools import combinations

import numpy as np
import pytest

from fastvis.readouts import cyclic_rotation
from fastvis.readouts.confusion import (
    ClusterConfusion,
    cluster_confusion,
    mei_confusion,
    merge_blocks,
)

O = 6


def linear(features):
    """A model that is linear in features (n_images, n_features, n_orientations)."""
    return lambda readouts: np.einsum("ifo,kfo->ik", features, readouts)


@pytest.fixture
def white():
    """A linear model whose features are uncorrelated and alike: correlations are cosines."""
    basis = np.eye(3 * O)
    return linear(np.concatenate([basis, -basis]).reshape(-1, 3, O))


def cosine(a, b):
    return np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2))


# Cluster confusion


def test_white_features_give_cosines(rng, white):
    labels = rng.permutation(np.repeat(np.arange(4), 5))
    readouts = rng.normal(size=(20, 3, O))
    confusion = cluster_confusion(white, labels, readouts)
    means = [readouts[labels == k].mean(axis=0) for k in range(4)]
    for p, q in combinations(range(4), 2):
        cosines = [cosine(means[p], np.roll(means[q], -s, axis=-1)) for s in range(O)]
        assert confusion.correlation[p, q] == pytest.approx(max(cosines))
        assert confusion.angles[p, q] == pytest.approx(np.argmax(cosines) * 2 * np.pi / O)
    np.testing.assert_array_equal(confusion.correlation, confusion.correlation.T)
    np.testing.assert_array_equal(np.diag(confusion.correlation), 1)
    np.testing.assert_array_equal(confusion.clusters, range(4))


def test_the_turn_between_clusters_is_found(rng, white):
    types = rng.normal(size=(2, 3, O))
    turns = np.array([0, 1, 4, 0, 3])
    means = np.array([np.roll(types[k], t, axis=-1) for k, t in zip([0, 0, 0, 1, 1], turns)])
    confusion = cluster_confusion(white, range(5), means)
    same = np.array([[1, 1, 1, 0, 0]] * 3 + [[0, 0, 0, 1, 1]] * 2, bool)
    np.testing.assert_allclose(confusion.correlation[same], 1)
    assert confusion.correlation[~same].max() < 0.9
    for p, q in zip(*np.nonzero(same)):
        turned = cyclic_rotation(means[q : q + 1], confusion.angles[p, q])[0]
        np.testing.assert_allclose(turned, means[p], atol=1e-12)
    turn = confusion.angles * O / (2 * np.pi)
    np.testing.assert_allclose(turn[0, 1:3], turns[1:3])
    # there and back
    np.testing.assert_allclose(np.mod(turn + turn.T + 0.5, O), 0.5)


@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_as_defined_for_any_model(rng, batch_size):
    # images that favor some orientations, and a nonlinearity
    features = rng.normal(size=(40, 2, O)) * rng.uniform(0.1, 3, size=(2, O)) + 1
    calls = []

    def model(readouts):
        calls.append(len(readouts))
        return np.exp(linear(features)(readouts) / 5)

    means = rng.normal(size=(3, 2, O))
    confusion = cluster_confusion(model, [0, 1, 2], means, batch_size=batch_size)
    assert max(calls) <= batch_size
    assert sum(calls) == 3 * O
    for p, q in np.ndindex(3, 3):
        by_turn = []
        for s in range(O):
            pairs = [
                model(np.array([np.roll(means[p], -a, -1), np.roll(means[q], -a - s, -1)]))
                for a in range(O)
            ]
            by_turn.append(np.mean([np.corrcoef(pair.T)[0, 1] for pair in pairs]))
        assert confusion.correlation[p, q] == pytest.approx(max(by_turn))
        assert confusion.angles[p, q] == pytest.approx(np.argmax(by_turn) * 2 * np.pi / O)


def test_flat_readouts_and_labels_with_gaps(rng, white):
    readouts = rng.normal(size=(5, 3, O))
    expected = cluster_confusion(white, [0, 1, 1, 2, 0], readouts)
    flat = readouts.transpose(0, 2, 1).reshape(5, -1)
    got = cluster_confusion(white, [3, 7, 7, 9, 3], flat, n_orientations=O, layout="orientation")
    np.testing.assert_array_equal(got.clusters, [3, 7, 9])
    np.testing.assert_allclose(got.correlation, expected.correlation)
    np.testing.assert_array_equal(got.angles, expected.angles)


def test_responses_are_averaged_and_correlated(rng):
    responses = rng.normal(size=(50, 6)).astype(np.float32)
    labels = np.array([1, 0, 1, 2, 0, 0])
    confusion = cluster_confusion(responses, labels)
    means = [responses[:, labels == k].mean(axis=1) for k in range(3)]
    np.testing.assert_allclose(confusion.correlation, np.corrcoef(means), atol=1e-6)
    np.testing.assert_array_equal(confusion.angles, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_predictions_have_no_correlation(rng, dtype):
    responses = rng.normal(size=(50, 3)).astype(dtype)
    responses[:, 1] = 0.1
    responses[::2, 1] += np.finfo(dtype).eps / 8  # constant but for rounding
    correlation = cluster_confusion(responses, [0, 1, 2]).correlation
    np.testing.assert_array_equal(correlation[1], [0, 1, 0])
    assert correlation[0, 2] == pytest.approx(np.corrcoef(responses.T)[0, 2], abs=1e-5)


def test_small_responses_are_not_constant(rng):
    responses = 1e-200 * rng.normal(size=(50, 2)) + 1e-190
    expected = np.corrcoef(responses.T * 1e195)[0, 1]
    confusion = cluster_confusion(responses, [0, 1])
    assert confusion.correlation[0, 1] == pytest.approx(expected, rel=1e-4)


# Blocks


def random_correlations(rng, K, n_images=8):
    return np.corrcoef(rng.normal(size=(K, n_images)))


def greedy(correlation, threshold):
    """Blocks as frozensets, and the merges beyond the threshold, by the definition."""
    blocks = [frozenset([k]) for k in range(len(correlation))]
    final, beyond = None, []
    while len(blocks) > 1:
        means = {
            (a, b): np.mean([correlation[p, q] for p in a for q in b])
            for a, b in combinations(blocks, 2)
        }
        (a, b), highest = max(means.items(), key=lambda item: item[1])
        if highest < threshold and final is None:
            final = set(blocks)
        if highest < threshold:
            beyond.append((frozenset([a, b]), highest))
        blocks = [block for block in blocks if block not in (a, b)] + [a | b]
    return (set(blocks) if final is None else final), beyond


def as_sets(blocks):
    groups = {}
    for cluster, block in enumerate(blocks.labels):
        groups.setdefault(int(block), []).append(cluster)
    return {block: frozenset(group) for block, group in groups.items()}


@pytest.mark.parametrize("threshold", [-1, 0.0, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("K", [1, 2, 7, 15])
def test_blocks_are_greedy(rng, K, threshold):
    correlation = random_correlations(rng, K) if K > 1 else np.ones((1, 1))
    blocks = merge_blocks(correlation, threshold)
    expected, beyond = greedy(correlation, threshold)
    assert set(as_sets(blocks).values()) == expected
    assert blocks.n_blocks == len(expected)

    steps = blocks.merges(K)
    assert len(steps) == len(beyond)
    before = blocks
    for step, (pair, highest) in zip(steps, beyond):
        sets = as_sets(before)
        assert {sets[step.pair[0]], sets[step.pair[1]]} == pair
        assert step.correlation == pytest.approx(highest)
        assert as_sets(step.blocks)[step.merged] == frozenset.union(*pair)
        before = step.blocks


def test_planted_blocks(rng):
    planted = rng.permutation(np.repeat([0, 1, 2], [6, 4, 2]))
    signals = rng.normal(size=(3, 400))[planted]
    correlation = np.corrcoef(signals + 0.4 * rng.normal(size=(12, 400)))
    blocks = merge_blocks(correlation)
    np.testing.assert_array_equal(blocks.labels, planted)  # both are ordered by size
    np.testing.assert_array_equal(blocks.bounds, [0, 6, 10, 12])
    np.testing.assert_array_equal(planted[blocks.order], np.sort(planted))
    np.testing.assert_array_equal(np.sort(blocks.order), range(12))
    assert repr(blocks) == "Blocks(3 blocks of 2 to 6 out of 12 clusters)"
    of_confusion = ClusterConfusion(correlation, np.zeros((12, 12)), np.arange(12))
    np.testing.assert_array_equal(merge_blocks(of_confusion).labels, planted)


def same_blocks(a, b):
    return np.array_equal(a.labels, b.labels) and np.array_equal(a.order, b.order)


def test_splits_undo_merges(rng):
    blocks = merge_blocks(random_correlations(rng, 15), 0.3)
    assert 4 < blocks.n_blocks < 12
    merges = blocks.merges(3)
    assert [step.blocks.n_blocks for step in merges] == [blocks.n_blocks - k for k in (1, 2, 3)]
    splits = merges[-1].blocks.splits(3)
    for merge, split in zip(merges, reversed(splits)):
        assert (merge.pair, merge.merged) == (split.pair, split.merged)
        assert merge.correlation == split.correlation
    assert same_blocks(splits[-1].blocks, blocks)
    assert same_blocks(splits[0].blocks, merges[1].blocks)
    # and the other way round
    assert same_blocks(blocks.splits(2)[-1].blocks.merges(2)[-1].blocks, blocks)


def test_split_correlations_by_definition(rng):
    correlation = random_correlations(rng, 15)
    blocks = merge_blocks(correlation, 0.2)
    for step in blocks.splits(4):
        before, after = as_sets(blocks), as_sets(step.blocks)
        a, b = (after[block] for block in step.pair)
        assert before[step.merged] == a | b
        mean = np.mean([correlation[p, q] for p in a for q in b])
        assert step.correlation == pytest.approx(mean)
        assert mean >= 0.2
        blocks = step.blocks


def test_steps_end_at_the_last_block(rng):
    blocks = merge_blocks(random_correlations(rng, 5), 1)
    assert len(blocks.merges(99)) == 4
    assert blocks.splits() == []
    assert blocks.merges(99)[-1].blocks.merges() == []
    assert len(blocks.merges(99)[-1].blocks.splits(99)) == 4


# Optimal images


SHAPES = {
    # no two of them are equal up to a rotation
    "L": [(0, 0), (1, 0), (2, 0), (2, 1)],
    "mirrored L": [(0, 1), (1, 1), (2, 1), (2, 0)],
    "square": [(0, 0), (0, 1), (1, 0), (1, 1)],
    "bar": [(0, 0), (0, 1), (0, 2), (0, 3)],
}


def draw(shape, quarter_turns=0, at=(0, 0), size=(15, 17)):
    pattern = np.zeros((4, 4))
    pattern[tuple(np.transpose(SHAPES[shape]))] = 1
    image = np.zeros(size)
    image[at[0] : at[0] + 4, at[1] : at[1] + 4] = np.rot90(pattern, quarter_turns)
    return image


def linear_nonlinear(filters):
    return lambda images: np.exp(np.einsum("nhw,jhw->nj", images, filters))


def most_common_pixels(a, b):
    """The largest overlap of two patterns over quarter turns and shifts, by brute force."""
    best = 0
    b = np.pad(b, 4)
    for turned in (np.rot90(a, k) for k in range(4)):
        for dy, dx in np.ndindex(b.shape[0] - turned.shape[0], b.shape[1] - turned.shape[1]):
            window = b[dy : dy + turned.shape[0], dx : dx + turned.shape[1]]
            best = max(best, np.sum(window * turned))
    return best


def test_linear_nonlinear_neurons():
    # for unit filters that are their own MEIs, activity is exp of the best overlap
    names = ["L", "L", "mirrored L", "square", "bar", "bar"]
    turns, places = [0, 1, 2, 0, 1, 0], [(5, 6), (4, 5), (6, 7), (5, 5), (6, 6), (5, 7)]
    filters = np.array([draw(*args) for args in zip(names, turns, places)])
    shifts = np.mgrid[-7:8, -7:8].reshape(2, -1).T
    confusion = mei_confusion(linear_nonlinear(filters), filters, n_rotations=4, shifts=shifts)
    overlap = [[most_common_pixels(draw(a)[:4, :4], draw(b)) for b in names] for a in names]
    np.testing.assert_allclose(confusion, np.exp(overlap), rtol=1e-9)
    assert confusion[0, 1] == pytest.approx(np.exp(4))  # the same up to place and rotation
    assert confusion[0, 2] == pytest.approx(np.exp(3))  # a mirror image is another one


def test_moved_images_are_as_documented(rng):
    # what the model is shown: rotations counter-clockwise about the pattern's own place, then
    # shifts down and to the right, in batches
    background = 0.3
    mei = np.full((21, 25), background)
    mei[8:13, 11:16] += rng.normal(size=(5, 5)) * [[0, 1, 1, 1, 0]]
    mei[10, 13] += 40  # so that the center is this pixel
    shown = []

    def model(images):
        shown.append(images)
        return np.zeros((len(images), 1))

    shifts = [(0, 0), (3, -2), (-20, 5)]
    mei_confusion(model, [mei], n_rotations=4, shifts=shifts, batch_size=5)
    assert [len(images) for images in shown] == [5, 5, 2]
    shown = np.concatenate(shown).reshape(4, 3, 21, 25)
    for k in range(4):
        turned = np.full((61, 65), background)
        turned[28:33, 31:36] = np.rot90(mei[8:13, 11:16], k)
        for image, (dy, dx) in zip(shown[k], shifts):
            expected = turned[20 - dy : 41 - dy, 20 - dx : 45 - dx]
            np.testing.assert_allclose(image, expected, atol=1e-9)


def test_quarter_turns_are_exact_up_to_the_border(rng):
    mei = rng.normal(size=(9, 9))
    mei[4, 4] += 100  # turns about this pixel
    shown = []

    def model(images):
        shown.extend(images)
        return np.zeros((len(images), 1))

    mei_confusion(model, [mei], n_rotations=4, shifts=[(0, 0)])
    expected = [np.rot90(mei, k) for k in range(4)]
    np.testing.assert_allclose(shown, expected, atol=1e-9)


def gabor(orientation, size=31):
    """A Gabor patch whose stripes run at this angle, counter-clockwise on the screen."""
    y, x = np.mgrid[: size // 2 * 2 + 1, : size // 2 * 2 + 1] - size // 2
    across = x * np.sin(orientation) + y * np.cos(orientation)
    return np.exp(-(x**2 + y**2) / (2 * 4**2)) * np.cos(2 * np.pi * across / 10)


def test_rotations_between_quarter_turns():
    angles = np.array([0, 1, 2.5]) * np.pi / 4
    filters = np.array([gabor(angle) for angle in angles])
    own = np.sum(filters[0] ** 2)

    def model(images):
        return np.maximum(np.einsum("nhw,jhw->nj", images, filters) / own, 0)

    stay = [(0, 0)]
    eight = mei_confusion(model, filters, n_rotations=8, shifts=stay)
    # interpolation takes a few percent; the third one is half a step away from all rotations
    np.testing.assert_allclose(eight[:2, :2], 1, atol=0.05)
    assert eight[2, 0] < eight[0, 1] - 0.03
    sixteen = mei_confusion(model, filters, n_rotations=16, shifts=stay)
    np.testing.assert_allclose(sixteen, 1, atol=0.05)
    # 3 rotations by 2 pi / 3: a neuron turned by pi / 4 is 15 degrees from the nearest one
    three = mei_confusion(model, filters, n_rotations=3, shifts=stay)
    assert three[0, 1] < 0.95 * eight[0, 1]


def test_normalized_by_own_mei(rng):
    meis = rng.normal(size=(3, 8, 9))

    def model(images):
        return np.einsum("nhw,jhw->nj", images, meis) ** 2 * [1, 10, 100]

    plain = mei_confusion(model, meis, n_rotations=2, batch_size=7)
    normalized = mei_confusion(model, meis, n_rotations=2, normalize=True)
    np.testing.assert_allclose(np.diag(normalized), 1)
    for j in range(3):
        np.testing.assert_allclose(normalized[:, j], plain[:, j] / plain[j, j], rtol=1e-12)


def test_default_shifts(capsys):
    shown = []

    def model(images):
        shown.append(images)
        return np.zeros((len(images), 1))

    mei = np.zeros((1, 36, 64), np.float32)
    mei[0, 18, 32] = 1
    mei_confusion(model, mei, n_rotations=1, progress=True)
    assert "1/1" in capsys.readouterr().err
    assert {images.dtype for images in shown} == {np.dtype(np.float32)}
    places = {tuple(place) for place in np.argwhere(np.concatenate(shown))[:, 1:].tolist()}
    grid = {(18 + dy, 32 + dx) for dy in range(-9, 10, 3) for dx in range(-15, 16, 3)}
    assert places == grid


def test_an_mei_without_a_pattern_stays():
    confusion = mei_confusion(lambda images: images.mean(axis=(1, 2))[:, None], [[[0.4] * 5] * 5])
    assert confusion == pytest.approx(0.4)


# Bad input

R, L = np.ones((4, 2, 8)), [0, 0, 1, 1]
IMAGES = np.ones((2, 6, 6))


def flat_model(readouts):
    return np.ones((5, len(readouts)))


def no(*args):
    return np.ones((3, 3))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cluster_confusion(flat_model, L), ValueError, "readouts must be given, aligned"),
        (lambda: cluster_confusion(flat_model, L, R[0]), ValueError, "readouts must have 3 dim"),
        (lambda: cluster_confusion(flat_model, L[:3], R), ValueError, "labels must have one value"),
        (lambda: cluster_confusion(np.ones((5, 4)), L, R), ValueError, "readouts must be left out"),
        (lambda: cluster_confusion(np.ones((5, 3)), L), ValueError, "labels must have one value"),
        (lambda: cluster_confusion(np.ones((1, 4)), L), ValueError, "at least 2 images"),
        (lambda: cluster_confusion(np.ones(4), L), ValueError, "model must have 2 dimensions"),
        (lambda: cluster_confusion(no, L, R), ValueError, r"= \(3, 16\); got \(3, 3\)"),
        (
            lambda: cluster_confusion(lambda r: flat_model(r) * np.nan, L, R),
            ValueError,
            r"model\(readouts\) must be finite",
        ),
        (
            lambda: cluster_confusion(lambda r: np.ones((2 + len(r), len(r))), L, R, batch_size=9),
            ValueError,
            "use the same images in each call",
        ),
        (
            lambda: cluster_confusion(flat_model, L, R, batch_size=0),
            ValueError,
            "batch_size must be an integer >= 1",
        ),
        (lambda: merge_blocks(np.ones((2, 3))), ValueError, "confusion must be square"),
        (lambda: merge_blocks([[1, 0.5], [0.2, 1]]), ValueError, "confusion must be symmetric"),
        (lambda: merge_blocks([[1, 2], [2, 1]]), ValueError, r"hold correlations in \[-1, 1\]"),
        (lambda: merge_blocks(np.eye(2), 1.5), ValueError, "threshold must be a finite number"),
        (lambda: merge_blocks(np.eye(2)).merges(-1), ValueError, "n must be an integer >= 0"),
        (lambda: merge_blocks(np.eye(2)).splits(1.0), TypeError, "n must be an integer >= 0"),
        (lambda: mei_confusion(IMAGES, IMAGES), TypeError, "model must be a callable"),
        (lambda: mei_confusion(no, IMAGES[0]), ValueError, "meis must have 3 dimensions"),
        (lambda: mei_confusion(no, IMAGES * np.inf), ValueError, "meis must be finite"),
        (lambda: mei_confusion(no, IMAGES), ValueError, "Restrict the model to the neurons"),
        (lambda: mei_confusion(no, IMAGES, n_rotations=0), ValueError, "n_rotations must be an"),
        (lambda: mei_confusion(no, IMAGES, batch_size=0), ValueError, "batch_size must be an"),
        (lambda: mei_confusion(no, IMAGES, shifts=[1, 2]), ValueError, "shifts must be .n_shifts"),
        (lambda: mei_confusion(no, IMAGES, shifts=[[0.5, 2]]), TypeError, "must be whole pixels"),
        (lambda: mei_confusion(no, IMAGES, shifts=[[0, 6]]), ValueError, "smaller than the images"),
        (
            lambda: mei_confusion(lambda x: np.zeros((len(x), 2)), IMAGES, normalize=True),
            ValueError,
            "model must drive each neuron above 0 by its own MEI",
        ),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("correlation", [0.1, 0.2, 0.3, 0.5, 0.7, 0.9, -0.3])
def test_a_correlation_at_the_threshold_merges(correlation):
    matrix = [[1, correlation], [correlation, 1]]
    assert merge_blocks(matrix, correlation).n_blocks == 1
    assert merge_blocks(matrix, correlation + 1e-9).n_blocks == 2


def test_the_diagonal_does_not_matter():
    matrix = np.array([[np.nan, 0.8], [0.8, 5]])
    assert merge_blocks(matrix).n_blocks == 1
    assert np.isnan(matrix[0, 0])
