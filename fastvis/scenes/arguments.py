"""Labels, shapes and depth orders as functions take them, and what follows from them alone."""

import numpy as np

from .._validation import _as_array, check_array

_BLOCK = 2**18  # numbers worked on at once: what fits into the cache
_EXACT = 2**24  # float32 counts exactly up to here
_MANY = 64  # objects, most of which cover few of the pixels


def check_shapes(shapes, name="shapes", *, ndim=4, axes="(n, K, H, W)"):
    """Return shapes as a C-contiguous array: bool as it is, or floats in [0, 1].

    >>> check_shapes(np.zeros((1, 2, 8, 8), np.uint8))
    Traceback (most recent call last):
    TypeError: shapes must be bool, or float in [0, 1]; got dtype uint8. Pass shapes > 0 ...
    """
    shapes = _as_array(shapes, name)
    if shapes.dtype.kind not in "bf":
        raise TypeError(
            f"{name} must be bool, or float in [0, 1]; got dtype {shapes.dtype}. "
            f"Pass {name} > 0 for masks of integers."
        )
    hard = shapes.dtype == bool
    if shapes.ndim not in np.atleast_1d(ndim) or shapes.size == 0 or not hard:
        shapes = check_array(shapes, name, ndim=ndim, axes=axes)
    if not (hard or (shapes.min() >= 0 and shapes.max() <= 1)):
        raise ValueError(
            f"{name} must have values in [0, 1]; got {shapes.min():.4g} to {shapes.max():.4g}. "
            "Pass how much of each pixel is covered."
        )
    return np.ascontiguousarray(shapes)


def check_labels(labels, name="labels"):
    """Return labels (n, H, W) as an integer array, all at least 0.

    >>> check_labels(np.zeros((8, 8), int))
    Traceback (most recent call last):
    ValueError: labels must have 3 dimensions (n, H, W); got shape (8, 8). Pass labels[None] ...
    """
    labels = _as_array(labels, name)
    if labels.dtype.kind not in "iub":
        raise TypeError(f"{name} must be integers; got dtype {labels.dtype}.")
    if labels.ndim != 3:
        raise ValueError(
            f"{name} must have 3 dimensions (n, H, W); got shape {labels.shape}. "
            f"Pass {name}[None] for one image."
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(
            f"{name} must be at least 0, the background; got {labels.min()}. "
            "Give pixels that belong to nothing the label 0."
        )
    return labels.astype(np.intp) if labels.dtype == np.uint64 else labels


def check_order(order, n, n_shapes=None, name="order"):
    """Return depth orders (n, K), back to front, padded with -1 at the end.

    >>> check_order([[1, 0, -1], [0, 0, -1]], 2)
    Traceback (most recent call last):
    ValueError: order must name each of the 3 objects at most once in a row, ...; got [0, 0, -1]
    for image 1.
    """
    order = _as_array(order, name)
    if order.size and order.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {order.dtype}.")
    if order.ndim != 2 or len(order) != n or n_shapes not in (None, order.shape[1]):
        k = "K" if n_shapes is None else n_shapes
        raise ValueError(f"{name} must have shape ({n}, {k}); got {order.shape}.")
    order = np.ascontiguousarray(order, dtype=np.int32)
    n_objects = order.shape[1]
    ranked = np.sort(order, axis=1)
    bad = ((order < -1) | (order >= n_objects)).any(axis=1)
    bad |= ((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] >= 0)).any(axis=1)
    bad |= ((order[:, :-1] < 0) & (order[:, 1:] >= 0)).any(axis=1)
    if bad.any():
        i = bad.argmax()
        raise ValueError(
            f"{name} must name each of the {n_objects} objects at most once in a row, from back "
            f"to front, then -1 for those that are absent; got {order[i].tolist()} for image {i}."
        )
    return order


def depths(order):
    """Place of each object from the back, (n, K), from an order (n, K); -1 if absent."""
    places = np.full(order.shape, -1, order.dtype)
    image, place = np.nonzero(order >= 0)
    places[image, order[image, place]] = place
    return places


def overlaps(a, b):
    """Pixels that each two shapes share, (n, Ka, Kb), from bool (n, Ka, H, W), (n, Kb, H, W)."""
    n, n_pixels = len(a), a.shape[2] * a.shape[3]
    dtype = np.float32 if n_pixels <= _EXACT else np.float64
    a, b = (s.reshape(*s.shape[:2], n_pixels) for s in (a, b))
    shared = np.empty((n, a.shape[1], b.shape[1]), dtype)
    if max(shared.shape[1:]) > _MANY:
        from scipy.sparse import csr_array

        for i in range(n):
            x, y = (csr_array(s[i], dtype=np.int32) for s in (a, b))
            shared[i] = (x @ y.T).toarray()
        return shared
    for rows in blocks(n, max(a.shape[1], b.shape[1], 1) * n_pixels):
        x, y = (s[rows].astype(dtype) for s in (a, b))
        np.matmul(x, y.transpose(0, 2, 1), out=shared[rows])
    return shared


def count_labels(labels, n_labels):
    """Pixels of each label 0 to n_labels - 1 in each image, (n, n_labels)."""
    counts = np.zeros((len(labels), n_labels), np.intp)
    for rows in blocks(len(labels), max(n_labels, labels[:1].size)):
        block = labels[rows].reshape(-1, labels[0].size).astype(np.intp)
        block += n_labels * np.arange(len(block))[:, None]
        total = np.bincount(block.ravel(), minlength=n_labels * len(block))
        counts[rows] = total.reshape(-1, n_labels)
    return counts


def blocks(n, size):
    """Slices of n images, such that images of ``size`` numbers fit into memory."""
    step = max(1, _BLOCK // max(1, size))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
