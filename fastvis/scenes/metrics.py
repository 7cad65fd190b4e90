"""Is a scene taken apart into its objects, with their whole shapes, in their order?

=====================  ======================================================  ===========
adjusted_rand_index    pairs of pixels that are together in both               1 is best
segmentation_covering  best overlap of each true segment, by size or not       1 is best
matched_iou            overlap of true and predicted segments, one to one      1 is best
best_overlap           `segmentation_covering` of objects, all equal (mBO)     1 is best
amodal_iou             overlap of whole shapes, one to one                     1 is best
depth_order_accuracy   which of two overlapping objects is in front            0.5: chance
expert_class_nmi       do experts stand for classes?                           1 is best
=====================  ======================================================  ===========

Each but the last returns one float64 for each image, NaN where it is not defined; `numpy.nanmean`
gives the number that papers report. Labels are 0 for the background and anything above for
objects; no metric depends on which object has which label. Predictions are labels too, or masks
(n, K, H, W), of which the largest at each pixel counts (of equal ones, the first). The background
of a prediction is a segment as any other, since models without supervision do not name theirs.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from .._validation import _as_array, check_array
from .arguments import blocks, check_labels, check_order, check_shapes, depths, overlaps

_TABLE = 2**22  # cells of a contingency table above which labels are first made dense


def adjusted_rand_index(true, predicted, *, foreground=True):
    """Adjusted Rand index (ARI) of each image: which pixels belong together, less chance.

    With n_ij the pixels of true label i and predicted label j, a_i and b_j their sums, N the
    number of pixels, and C(n) = n (n - 1) / 2::

        E   = sum_i C(a_i) sum_j C(b_j) / C(N)
        ARI = (sum_ij C(n_ij) - E) / ((sum_i C(a_i) + sum_j C(b_j)) / 2 - E)

    Parameters
    ----------
    true : array_like of int, (n, H, W)
    predicted : array_like, (n, H, W) of int, or (n, K, H, W)
        Labels, or masks.
    foreground : bool
        Count only pixels whose true label is not 0 (ARI-FG). What the prediction does with the
        background then does not matter: report it with `matched_iou`.

    Returns
    -------
    ndarray of float64, (n,)
        1 for equal segmentations, about 0 for random ones, at least -1.

    Raises
    ------
    TypeError, ValueError
        Labels that are not integers or are negative, different sizes, values that are not finite.

    Notes
    -----
    Where both segmentations of the counted pixels are one segment (a single object that is found
    whole), or both give every pixel a segment of its own, the fraction is 0 / 0 and the index 1,
    as in scikit-learn. A single object that is split has 0, however small the part that is split
    off. Without a counted pixel it is NaN.

    References
    ----------
    Hubert, Arabie, "Comparing partitions", J. Classification 2, 1985.

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> true = [[[0, 0, 1, 1, 2, 2]]]
    >>> predicted = [[[5, 5, 5, 5, 3, 3]]]  # one object and the background are one segment
    >>> metrics.adjusted_rand_index(true, predicted).tolist()
    [1.0]
    >>> metrics.adjusted_rand_index(true, predicted, foreground=False).round(3).tolist()
    [0.444]
    """
    return _per_image(true, predicted, lambda counts: _ari(counts[:, int(foreground) :]))


def segmentation_covering(true, predicted, *, weighted=True, foreground=True):
    """How well the best predicted segment covers each true one (SC and mSC), in each image.

    The intersection over union (IoU) of each true segment with the predicted segment of the
    highest IoU, averaged over true segments. Several may share one predicted segment.

    Parameters
    ----------
    true : array_like of int, (n, H, W)
    predicted : array_like, (n, H, W) of int, or (n, K, H, W)
        Labels, or masks.
    weighted : bool
        Average with weights in proportion to the size of the true segments (SC), or equal ones
        (mSC).
    foreground : bool
        Leave out the true background, label 0. Unions count all pixels in any case: a segment that
        bleeds into the background loses.

    Returns
    -------
    ndarray of float64, (n,)
        In (0, 1]; NaN without a true segment.

    Raises
    ------
    TypeError, ValueError
        Labels that are not integers or are negative, different sizes, values that are not finite.

    References
    ----------
    Arbelaez, Maire, Fowlkes, Malik, "Contour detection and hierarchical image segmentation", IEEE
    PAMI 33, 2011. Engelcke et al., "GENESIS", ICLR 2020 (mSC).

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> true, predicted = [[[0, 1, 1, 1, 2, 2]]], [[[0, 1, 1, 0, 2, 2]]]
    >>> metrics.segmentation_covering(true, predicted).round(3).tolist()
    [0.8]
    >>> metrics.segmentation_covering(true, predicted, weighted=False).round(3).tolist()
    [0.833]
    """

    def covering(counts):
        best = _iou(counts).max(axis=2)[:, int(foreground) :]
        sizes = counts.sum(axis=2)[:, int(foreground) :]
        weights = sizes if weighted else sizes > 0
        return _ratio((weights * best).sum(axis=1), weights.sum(axis=1))

    return _per_image(true, predicted, covering)


def matched_iou(true, predicted, *, foreground=True):
    """Mean intersection over union of true segments with predicted ones, matched one to one.

    True and predicted segments are matched so that the sum of IoUs is largest (Hungarian method).
    The sum is divided by the number of true segments: one without a partner counts 0, a predicted
    one without a partner does not count.

    Parameters
    ----------
    true : array_like of int, (n, H, W)
    predicted : array_like, (n, H, W) of int, or (n, K, H, W)
        Labels, or masks.
    foreground : bool
        Leave out the true background, label 0, before matching.

    Returns
    -------
    ndarray of float64, (n,)
        In (0, 1]; NaN without a true segment.

    Raises
    ------
    TypeError, ValueError
        Labels that are not integers or are negative, different sizes, values that are not finite.

    Notes
    -----
    The union is ``|A| + |B| - |A and B|``. ClevrTex divides by the number of pairs in which either
    segment is not empty; then its values are lower where there are more segments than objects.

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> true, predicted = [[[0, 0, 1, 1, 2, 2]]], [[[0, 0, 1, 1, 1, 1]]]
    >>> metrics.matched_iou(true, predicted).tolist()  # one object has no partner
    [0.25]
    >>> metrics.best_overlap(true, predicted).tolist()  # both take the same segment
    [0.5]
    """

    def matched(counts):
        exists = counts.sum(axis=2)[:, int(foreground) :] > 0
        total = _matched(_iou(counts)[:, int(foreground) :])
        return _ratio(total, exists.sum(axis=1))

    return _per_image(true, predicted, matched)


def best_overlap(true, predicted):
    """Mean over true objects of the IoU with the best predicted segment (mBO), in each image.

    ``segmentation_covering(true, predicted, weighted=False, foreground=True)`` under its other
    name: over instances (mBO^i) for labels of objects, over classes (mBO^c) for labels of classes.

    Parameters
    ----------
    true : array_like of int, (n, H, W)
    predicted : array_like, (n, H, W) of int, or (n, K, H, W)
        Labels, or masks.

    Returns
    -------
    ndarray of float64, (n,)
        In (0, 1]; NaN without an object.

    Raises
    ------
    TypeError, ValueError
        Labels that are not integers or are negative, different sizes, values that are not finite.

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> metrics.best_overlap([[[0, 1, 1, 2]]], [[[0, 1, 1, 1]]]).tolist()
    [0.5]
    """
    return segmentation_covering(true, predicted, weighted=False, foreground=True)


def amodal_iou(true_shapes, predicted_shapes):
    """Mean intersection over union of whole shapes, matched one to one, in each image.

    As `matched_iou`, for shapes that overlap: also what is hidden counts.

    Parameters
    ----------
    true_shapes : array_like of bool or float, (n, K, H, W)
        Whole shapes of the objects, without the background. Empty ones stand for no object.
    predicted_shapes : array_like of bool or float, (n, J, H, W)
        In any order and number, the background's among them or not; J may be 0. Floats in [0, 1]
        count where they are above 0.5.

    Returns
    -------
    ndarray of float64, (n,)
        In [0, 1]: the sum over matched pairs divided by the number of true shapes, so 0 if no shape
        is predicted; NaN without a true one.

    Raises
    ------
    TypeError, ValueError
        Shapes of integers, different sizes, values out of [0, 1].

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> true = np.array([[[[1, 1, 1, 0]], [[0, 0, 1, 1]]]], bool)
    >>> visible = np.array([[[[1, 1, 0, 0]], [[0, 0, 1, 1]]]], bool)
    >>> metrics.amodal_iou(true, true).tolist(), metrics.amodal_iou(true, visible).round(3).tolist()
    ([1.0], [0.833])
    """
    true, predicted = _check_two(true_shapes, predicted_shapes)
    total = _matched(_shape_iou(true, predicted))
    return _ratio(total, true.any(axis=(2, 3)).sum(axis=1))


def match_shapes(true_shapes, predicted_shapes):
    """Which predicted shape stands for each true one.

    Shapes are matched one to one so that the sum of IoUs is largest; also regions can be matched.

    Parameters
    ----------
    true_shapes : array_like of bool or float, (n, K, H, W)
        Empty ones stand for no object.
    predicted_shapes : array_like of bool or float, (n, J, H, W)
        Floats in [0, 1] count where they are above 0.5.

    Returns
    -------
    ndarray of int, (n, K)
        Indices 0 to J - 1; -1 for a true shape whose partner shares no pixel with it, or that has
        none.

    Raises
    ------
    TypeError, ValueError
        Shapes of integers, different sizes, values out of [0, 1].

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> true = np.array([[[[1, 1, 0, 0]], [[0, 0, 1, 1]], [[0, 0, 0, 0]]]], bool)
    >>> metrics.match_shapes(true, true[:, 1::-1]).tolist()
    [[1, 0, -1]]
    """
    true, predicted = _check_two(true_shapes, predicted_shapes)
    partners = np.full(true.shape[:2], -1)
    for i, iou in enumerate(_shape_iou(true, predicted)):
        k, j = linear_sum_assignment(iou, maximize=True)
        partners[i, k] = np.where(iou[k, j] > 0, j, -1)
    return partners


def depth_order_accuracy(true_shapes, true_order, predicted_shapes, predicted_order):
    """Share of overlapping pairs of objects whose depth order is predicted, in each image.

    Counted are pairs of true objects whose whole shapes share a pixel: of others, an image does
    not tell the order. Predicted shapes are matched to true ones by `match_shapes`.

    Parameters
    ----------
    true_shapes : array_like of bool or float, (n, K, H, W)
        Whole shapes; floats in [0, 1] count where they are above 0.5.
    true_order : array_like of int, (n, K)
        Indices of true shapes from back to front, then -1 for those that are absent, as
        ``Scenes.order``.
    predicted_shapes : array_like of bool or float, (n, J, H, W)
    predicted_order : array_like of int, (n, J)
        Indices of predicted shapes from back to front, then -1 for those without a known depth.

    Returns
    -------
    ndarray of float64, (n,)
        In [0, 1]. A pair counts 1 in the true order, 0 in the other, 0.5 if one of the two has no
        partner (all, if no shape is predicted) or its partner no known depth. NaN if no objects
        overlap.

    Raises
    ------
    TypeError, ValueError
        Shapes of integers, different sizes, values out of [0, 1]; orders that name a shape twice.

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> shapes = np.array([[[[1, 1, 1, 0]], [[0, 0, 1, 1]]]], bool)
    >>> metrics.depth_order_accuracy(shapes, [[0, 1]], shapes, [[0, 1]]).tolist()
    [1.0]
    >>> metrics.depth_order_accuracy(shapes, [[0, 1]], shapes, [[1, 0]]).tolist()
    [0.0]
    """
    true, predicted = _check_two(true_shapes, predicted_shapes)
    true_depth = depths(check_order(true_order, *true.shape[:2], "true_order"))
    depth = depths(check_order(predicted_order, *predicted.shape[:2], "predicted_order"))
    partners = match_shapes(true, predicted)
    depth = np.pad(depth, ((0, 0), (0, 1)), constant_values=-1)  # partner -1 is the last
    depth = np.take_along_axis(depth, partners, axis=1)
    known = depth >= 0
    agree = np.sign(_differences(true_depth)) == np.sign(_differences(depth))
    score = np.where(known[:, :, None] & known[:, None], agree, 0.5)
    present = true_depth >= 0
    pairs = np.triu(overlaps(true, true) > 0, 1) & present[:, :, None] & present[:, None]
    return _ratio((score * pairs).sum(axis=(1, 2)), pairs.sum(axis=(1, 2)))


def expert_class_nmi(experts, classes):
    """Normalized mutual information between the experts that explain objects and their classes.

    ``I(e; c) / ((H(e) + H(c)) / 2)``, over all objects of all images.

    Parameters
    ----------
    experts, classes : array_like of int, of one shape
        Of each object, for example (n, K). Objects with a negative value in either are left out.

    Returns
    -------
    float
        In [0, 1]: 1 if each class has an expert of its own, 0 if experts tell nothing about
        classes. 1 with one expert and one class; NaN without an object.

    Raises
    ------
    TypeError, ValueError
        Values that are not integers, different shapes.

    Notes
    -----
    The arithmetic mean of the entropies is what scikit-learn uses. For few objects it is above 0
    by chance: about (E - 1) (C - 1) / (N (H(e) + H(c))) for E experts, C classes, N objects.

    Examples
    --------
    >>> from fastvis.scenes import metrics
    >>> metrics.expert_class_nmi([2, 2, 0, 0], [0, 0, 1, 1])
    1.0
    >>> metrics.expert_class_nmi([0, 1, 0, 1], [0, 0, 1, 1])
    0.0
    """
    experts, classes = _as_array(experts, "experts"), _as_array(classes, "classes")
    for x, name in ((experts, "experts"), (classes, "classes")):
        if x.size and x.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers; got dtype {x.dtype}.")
    if experts.shape != classes.shape:
        raise ValueError(
            f"experts and classes must have one shape; got {experts.shape} and {classes.shape}."
        )
    given = (experts >= 0) & (classes >= 0)
    if not given.any():
        return float("nan")
    counts = _contingency(_dense(experts[given])[None], _dense(classes[given])[None])[0]
    joint = counts[counts.any(axis=1)][:, counts.any(axis=0)] / counts.sum()
    if joint.size == 1:
        return 1.0
    p, q = joint.sum(axis=1), joint.sum(axis=0)
    shared = _entropy(p) + _entropy(q) - _entropy(joint)
    return float(np.clip(2 * shared / (_entropy(p) + _entropy(q)), 0, 1))


def _per_image(true, predicted, metric):
    """``metric`` of contingency tables (m, A, B), for each image, (n,)."""
    true, predicted = _check_segments(true, predicted)
    n_true, n_predicted = int(true.max()) + 1, int(predicted.max()) + 1
    if n_true * n_predicted > _TABLE:
        tables = (
            _contingency(_dense(t, 0)[None], _dense(p)[None]) for t, p in zip(true, predicted)
        )
        return np.concatenate([metric(table) for table in tables])
    values = np.empty(len(true))
    for rows in blocks(len(true), max(true[0].size, n_true * n_predicted)):
        values[rows] = metric(_contingency(true[rows], predicted[rows], n_true, n_predicted))
    return values


def _contingency(true, predicted, n_true=None, n_predicted=None):
    """Pixels of each true and predicted label, (m, A, B)."""
    n_true = n_true or int(true.max()) + 1
    n_predicted = n_predicted or int(predicted.max()) + 1
    cells = true.reshape(len(true), -1).astype(np.intp)
    cells += n_true * np.arange(len(true))[:, None]
    cells *= n_predicted
    cells += predicted.reshape(len(predicted), -1)
    counts = np.bincount(cells.ravel(), minlength=len(true) * n_true * n_predicted)
    return counts.reshape(len(true), n_true, n_predicted)


def _dense(labels, *first):
    """Labels replaced by their ranks; ``first`` keep the lowest ones, used or not."""
    labels = np.concatenate([np.array(first, dtype=labels.dtype), labels.ravel()])
    return np.unique(labels, return_inverse=True)[1][len(first) :]


def _ari(counts):
    """ARI from ordered pairs of pixels: together in both, in one, in none."""
    n = counts.sum(axis=(1, 2), dtype=np.float64)
    both = np.square(counts, dtype=np.float64).sum(axis=(1, 2))
    true = np.square(counts.sum(axis=2), dtype=np.float64).sum(axis=1)
    predicted = np.square(counts.sum(axis=1), dtype=np.float64).sum(axis=1)
    split, merged = true - both, predicted - both
    together, apart = both - n, n**2 - true - predicted + both
    chance = (together + split) * (split + apart) + (together + merged) * (merged + apart)
    same = (split == 0) & (merged == 0)  # there the fraction may be 0 / 0
    ari = _ratio(2 * (together * apart - split * merged), chance)
    return np.where(n == 0, np.nan, np.where(same, 1.0, ari))


def _iou(counts):
    """IoU of each true and predicted segment, (m, A, B); 0 for two that are empty."""
    union = counts.sum(axis=2, keepdims=True) + counts.sum(axis=1, keepdims=True) - counts
    return counts / np.maximum(union, 1)


def _shape_iou(true, predicted):
    sizes = [s.sum(axis=(2, 3), dtype=np.float64) for s in (true, predicted)]
    shared = overlaps(true, predicted)
    union = sizes[0][:, :, None] + sizes[1][:, None] - shared
    return shared / np.maximum(union, 1)


def _matched(ious):
    """The largest sum of IoUs over pairs, one to one, for each image."""
    return np.array([iou[linear_sum_assignment(iou, maximize=True)].sum() for iou in ious])


def _differences(depth):
    return depth[:, :, None] - depth[:, None]


def _entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def _ratio(total, count):
    """``total / count``, NaN where the count is 0."""
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _check_segments(true, predicted):
    true = check_labels(true, "true")
    if np.ndim(predicted) == 4:
        predicted = _largest(check_array(predicted, "predicted"))
    else:
        predicted = check_labels(predicted, "predicted")
    if true.size == 0:
        raise ValueError(f"true must not be empty; got shape {true.shape}.")
    if true.shape != predicted.shape:
        raise ValueError(
            f"true and predicted must have the same images and sizes (n, H, W); got {true.shape} "
            f"and {predicted.shape}."
        )
    return true, predicted


def _largest(masks):
    """``masks.argmax(axis=1)``, which numpy would do by copying them with that axis last."""
    labels, largest = np.zeros(masks[:, 0].shape, np.intp), masks[:, 0].copy()
    for k in range(1, masks.shape[1]):
        labels[masks[:, k] > largest] = k
        np.maximum(largest, masks[:, k], out=largest)
    return labels


def _check_two(true_shapes, predicted_shapes):
    true = _as_hard(check_shapes(true_shapes, "true_shapes"))
    predicted = _as_array(predicted_shapes, "predicted_shapes")
    if predicted.ndim == 4 and predicted.shape[1] == 0:  # nothing was found
        predicted = np.zeros(predicted.shape, bool)
    else:
        predicted = _as_hard(check_shapes(predicted, "predicted_shapes"))
    if (len(true), *true.shape[2:]) != (len(predicted), *predicted.shape[2:]):
        raise ValueError(
            "true_shapes and predicted_shapes must have the same n, H and W of (n, K, H, W); got "
            f"{true.shape} and {predicted.shape}."
        )
    return true, predicted


def _as_hard(shapes):
    return shapes if shapes.dtype == bool else shapes > 0.5
