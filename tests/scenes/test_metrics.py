"""Metrics of segmentation: their definitions by brute force, scikit-learn, edge cases."""

import re
import tracemalloc
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from fastvis.scenes import metrics
from fastvis.scenes.arguments import overlaps

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
PAIRS = SIZES.flatmap(
    lambda size: st.tuples(*[hnp.arrays(np.int32, size, elements=st.integers(0, 4))] * 2)
)
SHAPES = st.tuples(SIZES, st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda s: st.tuples(*[hnp.arrays(bool, (s[0][0], k, *s[0][1:])) for k in s[1:]])
)
BY_LABELS = {
    "ari": metrics.adjusted_rand_index,
    "sc": metrics.segmentation_covering,
    "msc": lambda t, p, **foreground: metrics.segmentation_covering(
        t, p, weighted=False, **foreground
    ),
    "iou": metrics.matched_iou,
}
FOREGROUND = pytest.mark.parametrize("foreground", [True, False])
METRIC = pytest.mark.parametrize("metric", BY_LABELS)


def iou(a, b):
    return np.sum(a & b) / max(np.sum(a | b), 1)


def segments(labels, first=0):
    return [labels == k for k in np.unique(labels) if k >= first]


def best_sum(true, predicted):
    """The largest sum of IoUs, by trying every assignment."""
    table = np.zeros((len(true), max(len(true), len(predicted))))
    for i, j in np.ndindex(len(true), len(predicted)):
        table[i, j] = iou(true[i], predicted[j])
    choices = permutations(range(table.shape[1]), len(true))
    return max(sum(table[i, j] for i, j in enumerate(choice)) for choice in choices)


def defined(metric, true, predicted, foreground):
    """One image, as the docstrings say."""
    if metric == "ari":
        counted = true >= int(foreground)
        if not counted.any():
            return np.nan
        return adjusted_rand_score(true[counted], predicted[counted])
    objects = segments(true, int(foreground))
    if not objects:
        return np.nan
    if metric == "iou":
        return best_sum(objects, segments(predicted)) / len(objects)
    best = [max(iou(a, b) for b in segments(predicted)) for a in objects]
    return np.average(best, weights=[a.sum() if metric == "sc" else 1 for a in objects])


@FOREGROUND
@given(pair=PAIRS)
def test_each_image_is_as_defined(foreground, pair):
    for metric, function in BY_LABELS.items():
        values = function(*pair, foreground=foreground)
        assert values.dtype == np.float64
        expected = [defined(metric, t, p, foreground) for t, p in zip(*pair)]
        np.testing.assert_allclose(values, expected, atol=1e-12, err_msg=metric)


@METRIC
@FOREGROUND
def test_larger_images_in_several_blocks(metric, foreground, rng):
    true, predicted = rng.integers(0, 5, (2, 100, 64, 64))
    predicted = np.where(rng.random(true.shape) < 0.7, true, predicted)
    values = BY_LABELS[metric](true.astype(np.uint8), predicted, foreground=foreground)
    for i in (0, 57, 99):
        expected = defined(metric, true[i], predicted[i], foreground)
        assert values[i] == pytest.approx(expected, abs=1e-12)


@METRIC
@FOREGROUND
def test_many_labels_are_made_dense(metric, foreground, rng):
    # three images: one without background, one with nothing else
    true = rng.integers(0, 4, (3, 6, 6))
    true[1], true[2] = true[1] + 1, 0
    predicted = rng.integers(0, 4, (3, 6, 6))
    usual = BY_LABELS[metric](true, predicted, foreground=foreground)
    names = np.array([0, 7, 10**6, 10**9, 2 * 10**9])
    sparse = BY_LABELS[metric](names[true], names[predicted], foreground=foreground)
    np.testing.assert_allclose(sparse, usual, atol=1e-15)


@METRIC
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_any_integers(metric, dtype, rng):
    true, predicted = rng.integers(0, 4, (2, 2, 5, 5))
    values = BY_LABELS[metric](true.astype(dtype), predicted.astype(dtype))
    np.testing.assert_array_equal(values, BY_LABELS[metric](true, predicted))


@METRIC
@FOREGROUND
def test_names_of_labels_do_not_matter(metric, foreground, rng):
    true, predicted = rng.integers(0, 5, (2, 4, 8, 8))
    values = BY_LABELS[metric](true, predicted, foreground=foreground)
    renamed = np.array([0, 4, 2, 1, 3])[true], np.array([3, 0, 9, 2, 4])[predicted]
    np.testing.assert_allclose(BY_LABELS[metric](*renamed, foreground=foreground), values)


@METRIC
@FOREGROUND
def test_a_perfect_prediction(metric, foreground, rng):
    true = rng.integers(0, 5, (4, 8, 8))
    assert (BY_LABELS[metric](true, 7 - true, foreground=foreground) == 1).all()


@METRIC
def test_masks_are_labels_by_their_maximum(metric, rng):
    true, masks = rng.integers(0, 4, (3, 8, 8)), rng.random((3, 5, 8, 8), dtype=np.float32)
    expected = BY_LABELS[metric](true, masks.argmax(axis=1))
    np.testing.assert_array_equal(BY_LABELS[metric](true, masks), expected)
    hard = masks.argmax(axis=1)[:, None] == np.arange(5)[:, None, None]
    np.testing.assert_array_equal(BY_LABELS[metric](true, hard), expected)


def test_of_equal_masks_the_first_counts():
    masks = np.zeros((1, 3, 1, 4))
    masks[0, 1:, 0, 2:] = 1  # a tie of 1 and 2, and of all elsewhere
    np.testing.assert_array_equal(metrics._largest(masks), [[[0, 0, 1, 1]]])


# Edge cases


def test_ari_of_random_labels_is_about_zero(rng):
    true, predicted = rng.integers(0, 4, (2, 200, 32, 32))
    values = metrics.adjusted_rand_index(true, predicted, foreground=False)
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(200)
    assert values.std() < 0.01


def test_ari_ignores_the_background_if_asked():
    true = np.array([[[0, 0, 1, 1, 2, 2]]])
    bleeding = np.array([[[1, 2, 1, 1, 2, 2]]])
    assert metrics.adjusted_rand_index(true, bleeding) == 1
    assert metrics.adjusted_rand_index(true, bleeding, foreground=False) < 0.6
    assert metrics.matched_iou(true, bleeding) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([0, 0, 1, 1], [3, 3, 5, 5], 1.0),  # one object, whole
        ([0, 0, 1, 1], [0, 0, 0, 0], 1.0),  # and also if the background has the same label
        ([0, 1, 1, 1], [0, 1, 1, 2], 0.0),  # one object, split
        ([0, 0, 0, 1], [0, 0, 0, 0], 1.0),  # one pixel
        ([0, 1, 2, 3], [0, 1, 2, 3], 1.0),  # objects of one pixel each
        ([0, 1, 2, 3], [0, 1, 1, 1], 0.0),
        ([0, 0, 0, 0], [0, 1, 2, 3], np.nan),  # no object
    ],
)
def test_ari_of_the_foreground_where_others_divide_by_zero(true, predicted, expected):
    value = metrics.adjusted_rand_index([[true]], [[predicted]])
    np.testing.assert_equal(value, [expected])


def test_ari_of_large_images_keeps_its_digits():
    true, predicted = np.zeros((2, 1, 4000, 2000), np.int8)
    true[0, :1], predicted[0, :2] = 1, 1
    value = metrics.adjusted_rand_index(true, predicted, foreground=False)[0]
    # a = 2000 of N pixels in segment 1, predicted 2 a: closed form of the pair counts
    n, a = 8e6, 2000.0
    pairs = lambda x: x * (x - 1) / 2  # noqa: E731
    both = pairs(a) + pairs(a) + pairs(n - 2 * a)
    one, two = pairs(a) + pairs(n - a), pairs(2 * a) + pairs(n - 2 * a)
    chance = one * two / pairs(n)
    assert value == pytest.approx((both - chance) / ((one + two) / 2 - chance), rel=1e-9)


@METRIC
def test_only_background(metric):
    nothing = np.zeros((2, 3, 3), int)
    assert np.isnan(BY_LABELS[metric](nothing, nothing)).all()
    assert (BY_LABELS[metric](nothing, nothing, foreground=False) == 1).all()


def test_objects_that_are_all_one_segment():
    true, nothing = np.array([[[0, 0, 1, 2]]]), np.zeros((1, 1, 4), int)
    assert metrics.segmentation_covering(true, nothing) == 0.25
    assert metrics.best_overlap(true, nothing) == 0.25
    assert metrics.matched_iou(true, nothing) == 0.125  # the other has no partner
    assert metrics.matched_iou(true, nothing, foreground=False) == pytest.approx(0.5 / 3)


def test_scaled_and_mean_covering():
    true, predicted = np.array([[[1, 1, 1, 1, 1, 1, 2, 2]]]), np.array([[[1, 1, 1, 1, 1, 1, 0, 2]]])
    assert metrics.segmentation_covering(true, predicted) == (6 * 1 + 2 * 0.5) / 8
    assert metrics.segmentation_covering(true, predicted, weighted=False) == 0.75
    assert metrics.best_overlap(true, predicted) == 0.75


def test_the_last_label_counts():
    # ClevrTex leaves out the last true and the last predicted label
    true, predicted = np.array([[[0, 1, 2]]]), np.array([[[0, 1, 1]]])
    assert metrics.segmentation_covering(true, predicted, weighted=False) == 0.5


def test_the_union_is_not_the_sum():
    true = np.array([[[0, 1, 1, 1]]])
    assert metrics.matched_iou(true, np.array([[[0, 0, 1, 1]]])) == pytest.approx(2 / 3)


def test_surplus_segments_do_not_count_but_splitting_does():
    true = np.array([[[0, 0, 0, 1, 1, 1]]])
    assert metrics.matched_iou(true, [[[0, 2, 3, 1, 1, 1]]]) == 1
    assert metrics.matched_iou(true, [[[0, 0, 0, 1, 2, 3]]]) == pytest.approx(1 / 3)


# Whole shapes


@given(SHAPES)
def test_amodal_iou_is_as_defined(pair):
    values = metrics.amodal_iou(*pair)
    for value, true, predicted in zip(values, *pair):
        true = [m for m in true if m.any()]
        expected = best_sum(true, list(predicted)) / len(true) if true else np.nan
        np.testing.assert_allclose(value, expected, atol=1e-7)  # pixels are counted in float32


def test_amodal_iou_sees_what_is_hidden():
    true = np.zeros((1, 2, 4, 4), bool)
    true[0, 0, :3], true[0, 1, 2:] = True, True
    visible = true.copy()
    visible[0, 0, 2] = False
    assert metrics.amodal_iou(true, true[:, ::-1]) == 1
    assert metrics.amodal_iou(true, visible) == pytest.approx((8 / 12 + 1) / 2)


def test_soft_shapes_count_above_one_half():
    soft = np.array([[[[0.5, 0.51, 1.0, 0.0]]]], np.float32)
    hard = np.array([[[[0, 1, 1, 0]]]], bool)
    assert metrics.amodal_iou(hard, soft) == 1
    assert metrics.amodal_iou(soft, hard) == 1


def test_images_of_more_pixels_than_a_block(rng):
    true, predicted = rng.random((2, 3, 2, 700, 500)) < 0.5
    expected = [best_sum(list(t), list(p)) / 2 for t, p in zip(true, predicted)]
    np.testing.assert_allclose(metrics.amodal_iou(true, predicted), expected, atol=1e-7)


def test_matching(rng):
    true = np.zeros((2, 3, 4, 6), bool)
    for k in range(3):
        true[:, k, :, 2 * k : 2 * k + 2] = True
    true[1, 2] = False
    places = np.array([[3, 0, 1], [2, 4, -1]])
    predicted = np.zeros((2, 5, 4, 6), bool)
    for i, k in np.ndindex(2, 3):
        if places[i, k] >= 0:
            predicted[i, places[i, k]] = true[i, k] & (rng.random((4, 6)) < 0.8)
    np.testing.assert_array_equal(metrics.match_shapes(true, predicted), places)


def test_matching_too_few_and_those_that_share_nothing():
    true = np.eye(3, dtype=bool)[None, :, None]
    np.testing.assert_array_equal(metrics.match_shapes(true, true[:, 1:2]), [[-1, 0, -1]])
    np.testing.assert_array_equal(metrics.match_shapes(true[:, :2], true[:, 2:]), [[-1, -1]])


# Depth


def depth_by_definition(true, order, partners, predicted_order):
    order, predicted_order = list(order), list(predicted_order)
    scores = []
    for back, front in combinations([k for k in order if k >= 0], 2):
        if not (true[back] & true[front]).any():
            continue
        places = [partners[back], partners[front]]
        if any(p < 0 or p not in predicted_order for p in places):
            scores.append(0.5)
        else:
            a, b = (predicted_order.index(p) for p in places)
            scores.append(float(a < b))
    return np.mean(scores) if scores else np.nan


def random_orders(rng, n, k, absent=0.0):
    orders = np.full((n, k), -1)
    for row in orders:
        there = rng.permutation(k)[: k - rng.binomial(k, absent)]
        row[: len(there)] = there
    return orders


def test_depth_order_is_as_defined(rng):
    n = 300
    true = rng.random((n, 4, 3, 3)) < 0.3
    order = random_orders(rng, n, 4, 0.2)
    for shapes, row in zip(true, order):
        shapes[np.setdiff1d(np.arange(4), row)] = False
    predicted = true[:, rng.permutation(4)] ^ (rng.random(true.shape) < 0.1)
    predicted = np.concatenate([predicted, rng.random((n, 1, 3, 3)) < 0.5], axis=1)
    predicted_order = random_orders(rng, n, 5, 0.2)
    partners = metrics.match_shapes(true, predicted)
    values = metrics.depth_order_accuracy(true, order, predicted, predicted_order)
    expected = [depth_by_definition(*one) for one in zip(true, order, partners, predicted_order)]
    np.testing.assert_allclose(values, expected)
    assert {0, 0.5, 1} < set(values)
    assert np.isnan(values).any()


def stack_of_three():
    """Object 0 overlaps 1, 1 overlaps 2; 0 and 2 are apart."""
    shapes = np.zeros((1, 3, 1, 7), bool)
    for k in range(3):
        shapes[0, k, 0, 2 * k : 2 * k + 3] = True
    return shapes


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([0, 1, 2], 1.0),
        ([0, 2, 1], 0.5),
        ([2, 1, 0], 0.0),
        ([1, 0, 2], 0.5),
        ([0, 2, -1], 0.5),  # object 1 has no known depth
        ([0, 1, -1], 0.75),
        ([-1, -1, -1], 0.5),
    ],
)
def test_only_overlapping_pairs_count(predicted, expected):
    shapes = stack_of_three()
    value = metrics.depth_order_accuracy(shapes, [[0, 1, 2]], shapes, [predicted])
    assert value == expected


def test_the_order_of_objects_that_are_apart_does_not_matter():
    shapes = stack_of_three()
    for predicted in ([0, 2, 1], [2, 0, 1]):
        assert metrics.depth_order_accuracy(shapes, [[0, 2, 1]], shapes, [predicted]) == 1


def test_objects_that_were_not_found():
    shapes = stack_of_three()
    value = metrics.depth_order_accuracy(shapes, [[0, 1, 2]], shapes[:, 1:], [[0, 1]])
    assert value == 0.75  # 1 below 2; 0 and 1 unknown


def test_nothing_was_found():
    shapes, nothing = stack_of_three(), np.zeros((1, 0, 1, 7), bool)
    assert metrics.match_shapes(shapes, nothing).tolist() == [[-1, -1, -1]]
    assert metrics.amodal_iou(shapes, nothing) == 0
    assert metrics.depth_order_accuracy(shapes, [[0, 1, 2]], nothing, [[]]) == 0.5
    assert np.isnan(metrics.amodal_iou(shapes & False, nothing)).all()
    with pytest.raises(ValueError, match=re.escape("got (1, 3, 1, 7) and (1, 0, 1, 6)")):
        metrics.amodal_iou(shapes, nothing[..., :6])


def test_many_objects_are_as_few(rng, monkeypatch):
    # many are multiplied as sparse matrices
    true, predicted = rng.random((2, 70, 5, 6)) < 0.2, rng.random((2, 90, 5, 6)) < 0.2
    true[:, 3] = False
    orders = [np.array([rng.permutation(k) for _ in range(2)]) for k in (70, 90)]
    assert (metrics.amodal_iou(true, predicted[:, :0]) == 0).all()

    def values():
        shared = overlaps(true, predicted)
        depth = metrics.depth_order_accuracy(true, orders[0], predicted, orders[1])
        return shared, metrics.amodal_iou(true, predicted), depth

    sparse = values()
    expected = np.einsum("nihw,njhw->nij", true.astype(int), predicted.astype(int))
    np.testing.assert_array_equal(sparse[0], expected)
    monkeypatch.setattr("fastvis.scenes.arguments._MANY", 1000)
    for one, other in zip(sparse, values()):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_overlaps_of_thousands_of_shapes_take_little_memory():
    shapes = np.zeros((1, 3000, 128, 128), bool)
    for k in range(3000):
        shapes[0, k, k % 125 : k % 125 + 3, k // 25 % 120 : k // 25 % 120 + 9] = True
    tracemalloc.start()
    shared = overlaps(shapes, shapes)
    assert tracemalloc.get_traced_memory()[1] < 250e6  # dense shapes would take 400 MB
    tracemalloc.stop()
    assert (shared[0].diagonal() == 27).all()
    assert shared[0, 0, 1] == 18


def test_no_overlap_no_accuracy():
    shapes = stack_of_three()[:, ::2]
    assert np.isnan(metrics.depth_order_accuracy(shapes, [[0, 1]], shapes, [[0, 1]])).all()


# Experts


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(*[hnp.arrays(np.int64, n, elements=st.integers(0, 3))] * 2)
    )
)
def test_nmi_is_that_of_scikit_learn(pair):
    expected = normalized_mutual_info_score(*pair)
    assert metrics.expert_class_nmi(*pair) == pytest.approx(expected, abs=1e-12)


def test_nmi_leaves_out_absent_objects(rng):
    experts, classes = rng.integers(-1, 4, (2, 50, 3))
    given_ones = (experts >= 0) & (classes >= 0)
    expected = normalized_mutual_info_score(experts[given_ones], classes[given_ones])
    assert metrics.expert_class_nmi(experts, classes) == pytest.approx(expected, abs=1e-12)


def test_nmi_edges():
    assert metrics.expert_class_nmi([3, 3], [1, 1]) == 1
    assert metrics.expert_class_nmi([3, 3], [1, 2]) == 0
    assert metrics.expert_class_nmi([10**9, 5], [7, 10**12]) == 1
    assert np.isnan(metrics.expert_class_nmi([-1, 0], [0, -1]))
    assert np.isnan(metrics.expert_class_nmi([], []))


def test_nmi_of_chance_is_what_the_docstring_says(rng):
    experts, classes = rng.integers(0, [[4], [3]], (2, 300))
    many = [metrics.expert_class_nmi(rng.permutation(experts), classes) for _ in range(400)]
    bias = 3 * 2 / (300 * (np.log(4) + np.log(3)))
    assert np.mean(many) == pytest.approx(bias, rel=0.15)


# Bad input

LABELS = np.zeros((2, 4, 4), int)
MASKS = np.ones((2, 3, 4, 4), bool)


@METRIC
@pytest.mark.parametrize(
    ("true", "predicted", "error", "message"),
    [
        (LABELS[0], LABELS[0], ValueError, "Pass true[None] for one image"),
        (LABELS, LABELS[0], ValueError, "Pass predicted[None] for one image"),
        (LABELS, LABELS[:1], ValueError, "got (2, 4, 4) and (1, 4, 4)"),
        (LABELS, LABELS[..., :3], ValueError, "got (2, 4, 4) and (2, 4, 3)"),
        (LABELS, MASKS[:, :, :3], ValueError, "got (2, 4, 4) and (2, 3, 4)"),
        (LABELS - 1, LABELS, ValueError, "true must be at least 0, the background; got -1"),
        (LABELS, LABELS - 2, ValueError, "predicted must be at least 0, the background; got -2"),
        (LABELS + 0.5, LABELS, TypeError, "true must be integers; got dtype float64"),
        (LABELS, LABELS + 0.5, TypeError, "predicted must be integers; got dtype float64"),
        (LABELS, MASKS * np.nan, ValueError, "predicted must be finite"),
        (LABELS[:0], LABELS[:0], ValueError, "true must not be empty"),
        (LABELS, MASKS[:, :0], ValueError, "predicted must not be empty"),
    ],
)
def test_bad_labels(metric, true, predicted, error, message):
    with pytest.raises(error, match=re.escape(message)):
        BY_LABELS[metric](true, predicted)


@pytest.mark.parametrize(
    "metric",
    [
        metrics.amodal_iou,
        metrics.match_shapes,
        lambda t, p: metrics.depth_order_accuracy(t, [[0, 1, 2]] * 2, p, [[0, 1, 2]] * 2),
    ],
)
@pytest.mark.parametrize(
    ("true", "predicted", "error", "message"),
    [
        (MASKS[0], MASKS, ValueError, "true_shapes must have 4 dimensions (n, K, H, W)"),
        (MASKS, MASKS[:1], ValueError, "got (2, 3, 4, 4) and (1, 3, 4, 4)"),
        (MASKS, MASKS[..., :2], ValueError, "got (2, 3, 4, 4) and (2, 3, 4, 2)"),
        (MASKS, MASKS.astype(int), TypeError, "Pass predicted_shapes > 0 for masks of integers"),
        (2.0 * MASKS, MASKS, ValueError, "true_shapes must have values in [0, 1]"),
        (MASKS, MASKS * np.nan, ValueError, "predicted_shapes must be finite"),
        (MASKS[:, :0], MASKS, ValueError, "true_shapes must not be empty"),
    ],
)
def test_bad_shapes(metric, true, predicted, error, message):
    with pytest.raises(error, match=re.escape(message)):
        metric(true, predicted)


@pytest.mark.parametrize(
    ("order", "error", "message"),
    [
        ([[0, 1, 2]], ValueError, "must have shape (2, 3); got (1, 3)"),
        ([[0, 1], [0, 1]], ValueError, "must have shape (2, 3); got (2, 2)"),
        ([[0, 1, 2], [0, 2, 2]], ValueError, "got [0, 2, 2] for image 1"),
        ([[0, 1, 3], [0, 1, 2]], ValueError, "got [0, 1, 3] for image 0"),
        ([[0, 1, 2], [0, -1, 2]], ValueError, "got [0, -1, 2] for image 1"),
        ([[0, 1, -2], [0, 1, 2]], ValueError, "got [0, 1, -2] for image 0"),
        ([[0.0, 1, 2], [0, 1, 2]], TypeError, "must be integers; got dtype float64"),
    ],
)
def test_bad_orders(order, error, message):
    good = [[0, 1, 2]] * 2
    with pytest.raises(error, match=re.escape(message)) as caught:
        metrics.depth_order_accuracy(MASKS, order, MASKS, good)
    assert "true_order" in str(caught.value)
    with pytest.raises(error, match="predicted_order"):
        metrics.depth_order_accuracy(MASKS, good, MASKS, order)


def test_bad_experts():
    with pytest.raises(ValueError, match=re.escape("one shape; got (2,) and (3,)")):
        metrics.expert_class_nmi([0, 1], [0, 1, 2])
    with pytest.raises(TypeError, match="classes must be integers; got dtype float64"):
        metrics.expert_class_nmi([0, 1], [0.0, np.nan])
