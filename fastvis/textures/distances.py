"""Distances between textures: of Gram matrices (2), of pixels (3), and matrices of them (Fig. 6).

Both are squared Euclidean distances over the product of the two norms: 0 for equal textures, and
2 - 2 cos(angle) for vectors of equal norm.
"""

import numpy as np
from scipy.spatial.distance import pdist, squareform

from .._validation import check_float, check_image


def gram_distance(x, y, model):
    """Relative squared distance between the Gram matrices of two images, eq (2).

    ``sum((G(x) - G(y))**2) / (norm(G(x)) * norm(G(y)))``, with Frobenius norms.

    Parameters
    ----------
    x, y : array_like, (H, W, C) or (H, W)
        Images in [0, 1]; sizes may differ. uint8 is divided by 255.
    model : GramModel
        Or any object with a method ``gram(image) -> (N, N)``.

    Returns
    -------
    float
        At least 0, symmetric in x and y; summed in float64.

    Raises
    ------
    ValueError
        An image whose Gram matrix is zero: the relative distance is not defined. What the model
        does not accept.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, section 3, eq (2).

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank, GramModel, gram_distance
    >>> model = GramModel(FilterBank.random(sizes=(3,), n_maps=4, channels=1, rng=0))
    >>> x = np.random.default_rng(0).random((16, 16))
    >>> round(gram_distance(x, 2 * x, model), 6)  # (4 - 1)**2 / 4
    2.25
    """
    grams = [_gram_vector(model, image).astype(np.float64) for image in (x, y)]
    return _relative_distance(*grams, "a Gram matrix that is not zero")


def pixel_distance(x, y):
    """Relative squared distance between the pixels of two images, eq (3).

    ``sum((x - y)**2) / (norm(x) * norm(y))``, over all pixels and channels.

    Parameters
    ----------
    x, y : array_like, (H, W, C) or (H, W), of the same shape
        Images in [0, 1]; uint8 is divided by 255.

    Returns
    -------
    float
        At least 0, symmetric in x and y; summed in float64.

    Raises
    ------
    ValueError
        Different shapes; an image that is zero everywhere.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, section 3, eq (3); its sum runs over all pixel values.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import pixel_distance
    >>> pixel_distance(np.full((4, 4), 0.25), np.full((4, 4), 0.5))  # 0.25**2 / (0.25 * 0.5)
    0.5
    """
    x, y = check_image(x, "x"), check_image(y, "y")
    if x.shape != y.shape:
        raise ValueError(
            f"x and y must have the same shape; got {x.shape} and {y.shape}. "
            "Crop them, or use gram_distance, which compares images of any size."
        )
    x, y = (image.astype(np.float64).ravel() for image in (x, y))
    return _relative_distance(x, y, "a pixel that is not zero")


def distance_matrix(patches, metric):
    """Median distances between the patches of several textures (Fig. 6).

    Entry (i, j) is the median over all pairs of a patch of texture i and another patch of texture
    j: on the diagonal a patch is not compared with itself.

    Parameters
    ----------
    patches : sequence of T sequences of images, or of stacks (n, H, W, C)
        At least two patches of each texture, (H, W) or (H, W, C); their numbers may differ.
    metric : GramModel or callable
        A model (anything with a method ``gram``) stands for `gram_distance`, with each Gram matrix
        computed once; all of them are held in memory, N * N values for each patch. A callable
        ``metric(x, y) -> float`` must be symmetric: each pair is evaluated in one order, on the
        patches as they were passed.

    Returns
    -------
    ndarray, (T, T), float64
        Symmetric.

    Raises
    ------
    TypeError
        A metric that is neither, or that does not return a number.
    ValueError
        Fewer than two patches of a texture, patches that are not finite or whose Gram matrix is
        zero, a metric that is not finite.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, Fig. 6.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import distance_matrix, pixel_distance
    >>> rng = np.random.default_rng(0)
    >>> dark, light = rng.random((2, 3, 8, 8, 1)) + [[[[[0]]]], [[[[3]]]]]
    >>> distances = distance_matrix([dark, light], pixel_distance)
    >>> bool(distances[0, 1] > distances[0, 0] > distances[1, 1])
    True
    """
    if not (hasattr(metric, "gram") or callable(metric)):
        raise TypeError(
            "metric must be a model with a method gram, or a callable (x, y) -> float; "
            f"got {type(metric).__name__}."
        )
    textures = _checked_patches(patches)
    flat = [patch for texture in textures for patch in texture]
    d = (_gram_distances if hasattr(metric, "gram") else _called_distances)(flat, metric)
    last = np.cumsum([len(texture) for texture in textures])
    ranges = [slice(end - len(texture), end) for end, texture in zip(last, textures)]
    result = np.empty((len(textures), len(textures)))
    for i, rows in enumerate(ranges):
        for j, columns in enumerate(ranges):
            block = d[rows, columns]
            result[i, j] = np.median(block[np.triu_indices_from(block, 1)] if i == j else block)
    return result


def _gram_vector(model, image):
    gram = model.gram(image)
    if isinstance(gram, (tuple, list)):
        raise TypeError(
            f"model must have one Gram matrix; {type(model).__name__} has {len(gram)}. "
            "Pass a GramModel, or, to distance_matrix, a function of two images."
        )
    return np.asarray(gram).ravel()


def _relative_distance(a, b, rule):
    norms = np.linalg.norm(a), np.linalg.norm(b)
    for name, norm in zip("xy", norms):
        if norm == 0:
            raise ValueError(
                f"{name} must have {rule}: the distance is relative to its norm. "
                "Leave constant images out."
            )
    return float(np.sum((a - b) ** 2) / (norms[0] * norms[1]))


def _gram_distances(patches, model, chunk=1 << 16):
    """All distances (2), ``(n, n)``."""
    grams = np.array([_gram_vector(model, patch) for patch in patches])
    squares = 0.0
    norms = 0.0
    for i in range(0, grams.shape[1], chunk):
        part = grams[:, i : i + chunk].astype(np.float64)
        squares = squares + pdist(part, "sqeuclidean")
        norms = norms + np.sum(part**2, axis=1)
    norms = np.sqrt(norms)
    if not norms.all():
        raise ValueError(
            "patches must have Gram matrices that are not zero: the distance is relative to their "
            f"norm; got {np.sum(norms == 0)} zero(s), the first in patch {norms.argmin()} of all. "
            "Leave constant patches out."
        )
    return squareform(squares) / np.multiply.outer(norms, norms)


def _called_distances(patches, metric):
    """``metric`` for all pairs, ``(n, n)``, 0 on the diagonal."""
    d = np.zeros((len(patches), len(patches)))
    for a, x in enumerate(patches):
        for b, y in enumerate(patches[:a]):
            d[a, b] = d[b, a] = check_float(metric(y, x), "metric(x, y)")
    return d


def _checked_patches(patches):
    """A list of lists of patches, as they were passed."""
    try:
        textures = [list(texture) for texture in patches]
    except TypeError:
        raise TypeError(
            "patches must be a sequence of sequences of images, one for each texture; "
            f"got {type(patches).__name__}."
        ) from None
    if not textures:
        raise ValueError("patches must hold at least one texture; got none.")
    for i, texture in enumerate(textures):
        if len(texture) < 2:
            raise ValueError(
                f"patches[{i}] must hold at least 2 patches of the texture; got {len(texture)}."
            )
        for j, patch in enumerate(texture):
            check_image(patch, f"patches[{i}][{j}]")
    return textures
