"""How similar clusters are in what they compute: confusion matrices and their blocks (Fig. 7)."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.ndimage import affine_transform
from scipy.spatial.distance import squareform

from .._validation import check_array, check_float, check_int
from .arguments import check_labels, check_readouts


@dataclass(frozen=True, repr=False, eq=False)
class ClusterConfusion:
    """Correlations between the predicted responses of clusters.

    Attributes
    ----------
    correlation : ndarray, (K, K)
        Symmetric, in [-1, 1], 1 on the diagonal.
    angles : ndarray, (K, K)
        Radians in [0, 2 pi), whole bins: ``cyclic_rotation(mean_q, angles[p, q])`` is the turn of
        cluster q that correlates best with cluster p. ``angles[q, p]`` turns back. 0 if rotation
        was not accounted for.
    clusters : ndarray of int, (K,)
        The label that each row and column belongs to.
    """

    correlation: np.ndarray
    angles: np.ndarray
    clusters: np.ndarray

    def __repr__(self):
        K = len(self.clusters)
        off = self.correlation[np.triu_indices(K, 1)]
        between = f"; {off.min():.2f} to {off.max():.2f} between two" if K > 1 else ""
        return f"ClusterConfusion({K} clusters{between})"


@dataclass(frozen=True, repr=False, eq=False)
class Blocks:
    """Clusters in blocks that do nearly the same; blocks are numbered largest first.

    Attributes
    ----------
    labels : ndarray of int, (K,)
        The block of each cluster.
    order : ndarray of int, (K,)
        The clusters, block by block: ``confusion[order][:, order]`` shows the blocks.
    tree : ndarray, (K - 1, 4)
        All merges down to one block, as `scipy.cluster.hierarchy.linkage` on
        ``1 - correlation`` gives them.
    """

    labels: np.ndarray
    order: np.ndarray
    tree: np.ndarray

    @property
    def n_blocks(self):
        """The number of blocks."""
        return int(self.labels.max()) + 1

    @property
    def bounds(self):
        """Where blocks begin and end in ``order``, (n_blocks + 1,)."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.labels))])

    def merges(self, n=3):
        """The next merges, of the blocks with the highest correlation (Fig. C1).

        Parameters
        ----------
        n : int
            Fewer are given if a single block remains before.

        Returns
        -------
        list of BlockStep
            Each starts from the blocks that the one before it leaves.
        """
        done = len(self.labels) - self.n_blocks
        end = min(done + check_int(n, "n", minimum=0), len(self.tree))
        return [_step(self.tree, row, into="coarser") for row in range(done, end)]

    def splits(self, n=3):
        """The last merges undone, the last one first (Fig. C2).

        Parameters
        ----------
        n : int
            Fewer are given if each cluster is its own block before.

        Returns
        -------
        list of BlockStep
            Each starts from the blocks that the one before it leaves.
        """
        done = len(self.labels) - self.n_blocks
        end = max(done - check_int(n, "n", minimum=0), 0)
        return [_step(self.tree, row, into="finer") for row in range(done - 1, end - 1, -1)]

    def __repr__(self):
        sizes = np.bincount(self.labels)
        return (
            f"Blocks({self.n_blocks} blocks of {sizes.min()} to {sizes.max()} out of "
            f"{len(self.labels)} clusters)"
        )


@dataclass(frozen=True, repr=False, eq=False)
class BlockStep:
    """Two blocks that become one, or the reverse.

    Attributes
    ----------
    pair : tuple of two int
        The two blocks, numbered as where they are apart: before a merge, after a split.
    merged : int
        Both as one block, numbered as where they are together: after a merge, before a split.
    correlation : float
        Mean over pairs of a cluster of one block and a cluster of the other.
    blocks : Blocks
        What the step leads to.
    """

    pair: tuple
    merged: int
    correlation: float
    blocks: Blocks

    def __repr__(self):
        return (
            f"BlockStep({self.pair[0]} and {self.pair[1]} apart, {self.merged} together, "
            f"correlation={self.correlation:.2f})"
        )


def cluster_confusion(
    model, labels, readouts=None, *, n_orientations=None, layout="feature", batch_size=256
):
    """Correlation between the responses of clusters, turned to fit each other (Fig. 7, left).

    Entry (p, q) compares hypothetical neurons that have the means of clusters p and q as readouts:
    the highest, over relative rotations by whole bins, of the correlation over images, which is
    itself a mean over common rotations of both (so the matrix is symmetric, whatever orientations
    the images favor).

    Parameters
    ----------
    model : callable or array_like, (n_images, n_neurons)
        A callable ``model(readouts) -> responses`` predicts the responses (n_images, k) of
        hypothetical neurons with readouts (k, n_features, n_orientations), all at one place in
        the image, to the same images in each call. An array holds the neurons' own responses:
        their cluster means are correlated, and rotation is not accounted for.
    labels : array_like of int, (n_neurons,)
        The cluster of each neuron, at least 0. Rows of the result are in ascending order.
    readouts : array_like, (n_neurons, n_features, n_orientations) or (n_neurons, n_dims)
        The aligned readouts, for a callable.
    n_orientations : int, optional
        Needed for flat readouts.
    layout : {"feature", "orientation"}
        Which index of flat readouts runs slowest.
    batch_size : int
        Hypothetical neurons in a call of the model; there are n_clusters * n_orientations.

    Returns
    -------
    ClusterConfusion

    Raises
    ------
    TypeError
        Labels that are not integers.
    ValueError
        Fewer than two images, shapes that do not belong together, responses that are not finite.

    Notes
    -----
    Responses that do not change over images have no correlation: it is set to 0, and to 1 on the
    diagonal.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 5.2, Fig. 7.

    Examples
    --------
    Three clusters; the first two differ by a rotation of one bin.

    >>> import numpy as np
    >>> from fastvis.readouts.confusion import cluster_confusion
    >>> features = np.random.default_rng(0).normal(size=(500, 1, 4))
    >>> model = lambda readouts: np.einsum("ifo,kfo->ik", features, readouts)
    >>> means = np.array([[[1.0, 2, 0, 0]], [[0, 1.0, 2, 0]], [[1.0, -1.0, 1.0, -1.0]]])
    >>> confusion = cluster_confusion(model, [0, 1, 2], means)
    >>> float(confusion.correlation[0, 1].round(6)), float(confusion.angles[0, 1].round(6))
    (1.0, 1.570796)
    """
    if not callable(model):
        if readouts is not None:
            raise ValueError(
                "readouts must be left out if model is an array of responses; got both. "
                "Pass a callable that predicts responses from readouts to account for rotation."
            )
        return _response_confusion(model, labels)
    if readouts is None:
        raise ValueError("readouts must be given, aligned, if model is a callable; got None.")
    readouts = check_readouts(readouts, n_orientations, layout)
    labels = check_labels(labels, len(readouts))
    batch_size = check_int(batch_size, "batch_size", minimum=1)
    clusters = np.unique(labels)
    means = np.array([readouts[labels == cluster].mean(axis=0) for cluster in clusters])
    K, n_features, O = means.shape
    turned = np.stack([np.roll(means, -a, axis=-1) for a in range(O)], axis=1)
    responses = _predict(model, turned.reshape(K * O, n_features, O), batch_size)
    unit = _standardize(responses)
    correlation = (unit.T @ unit).reshape(K, O, K, O).transpose(0, 2, 1, 3)
    return _best_rotation(correlation, clusters)


def merge_blocks(confusion, threshold=0.5):
    """Merge clusters into blocks, greedily, while two blocks correlate enough (Fig. 7).

    Again and again the two blocks with the highest mean correlation between their clusters become
    one, until it is below the threshold. That is average linkage of ``1 - correlation``, which
    `scipy.cluster.hierarchy.linkage` computes.

    Parameters
    ----------
    confusion : ClusterConfusion or array_like, (K, K)
        Correlations between clusters, symmetric; the diagonal does not matter.
    threshold : float
        In [-1, 1].

    Returns
    -------
    Blocks

    Raises
    ------
    ValueError
        A matrix that is not square and symmetric, or with values outside [-1, 1].

    Notes
    -----
    The paper gives the threshold (0.5, for 17 blocks of 100 clusters) but not how the correlation
    of two blocks is defined; the mean is ours.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 5.2, Fig. 7 and appendix C.

    Examples
    --------
    >>> from fastvis.readouts.confusion import merge_blocks
    >>> blocks = merge_blocks([[1, 0.1, 0.8], [0.1, 1, 0.3], [0.8, 0.3, 1]])
    >>> blocks
    Blocks(2 blocks of 1 to 2 out of 3 clusters)
    >>> blocks.labels.tolist(), blocks.order.tolist()
    ([0, 1, 0], [0, 2, 1])
    >>> blocks.merges()
    [BlockStep(0 and 1 apart, 0 together, correlation=0.20)]
    """
    correlation = _check_confusion(confusion)
    threshold = check_float(threshold, "threshold", minimum=-1, maximum=1)
    K = len(correlation)
    if K == 1:
        return _blocks(np.empty((0, 4)), 0)
    distance = 1 - (correlation + correlation.T) / 2
    tree = linkage(squareform(distance, checks=False), "average")
    return _blocks(tree, np.count_nonzero(tree[:, 2] <= 1 - threshold))


def mei_confusion(
    model,
    meis,
    *,
    n_rotations=8,
    shifts=None,
    normalize=False,
    batch_size=256,
    progress=False,
):
    """Response of each neuron to each neuron's optimal image, moved and turned (Fig. 7, right).

    Entry (i, j) is the highest activity of neuron j for the maximally exciting input (MEI) of
    neuron i over all rotations and shifts.

    Parameters
    ----------
    model : callable
        ``model(images) -> activities``, from (n, H, W) to (n, n_neurons).
    meis : array_like, (n_neurons, H, W)
        The MEI of each of the model's neurons, in the model's units.
    n_rotations : int
        Turns by ``2 pi k / n_rotations``, counter-clockwise on the screen.
    shifts : array_like of int, (n_shifts, 2), optional
        Rows down and columns to the right, in pixels, fewer than the image has. The default is a
        grid of up to a quarter of the image to all sides, in steps of a twelfth of its shorter
        side. They have to bridge the distances between receptive fields.
    normalize : bool
        Divide column j by entry (j, j).
    batch_size : int
        Images in a call of the model, out of n_neurons * n_rotations * n_shifts.
    progress : bool
        Show a progress bar over MEIs.

    Returns
    -------
    ndarray, (n_neurons, n_neurons)

    Raises
    ------
    ValueError
        Shapes that do not belong together, values that are not finite, shifts out of the image,
        ``normalize`` with a neuron that its own MEI does not drive above 0.

    Notes
    -----
    An MEI turns about its own place: the pixel nearest to the center of its squared deviations
    from its background, the median of the pixels along its border. Background fills what moves
    in; what moves out is lost. Turning interpolates linearly (order 1 of `scipy.ndimage`), which
    is exact for quarter turns and takes a little contrast from fine patterns otherwise.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, section 5.2, Fig. 7.

    Examples
    --------
    Two neurons that look for the same bar, one of them for the turned one.

    >>> import numpy as np
    >>> from fastvis.readouts.confusion import mei_confusion
    >>> bar = np.zeros((9, 9))
    >>> bar[4, 2:7] = 1
    >>> meis = np.array([bar, bar.T])
    >>> model = lambda images: np.einsum("nhw,jhw->nj", images, meis)
    >>> model(meis).tolist()
    [[5.0, 1.0], [1.0, 5.0]]
    >>> mei_confusion(model, meis, n_rotations=4).round(6).tolist()
    [[5.0, 5.0], [5.0, 5.0]]
    """
    if not callable(model):
        raise TypeError(
            f"model must be a callable (images) -> activities; got {type(model).__name__}."
        )
    meis = check_array(meis, "meis", ndim=3, axes="(n_neurons, H, W)")
    n_rotations = check_int(n_rotations, "n_rotations", minimum=1)
    batch_size = check_int(batch_size, "batch_size", minimum=1)
    shifts = _check_shifts(shifts, meis.shape[1:])
    activities = np.empty((len(meis), len(meis)))
    rows = range(len(meis))
    if progress:
        from tqdm.auto import tqdm

        rows = tqdm(rows, unit="MEI")
    for i in rows:
        activities[i] = _highest(model, meis[i], n_rotations, shifts, len(meis), batch_size)
    return _by_own(activities) if normalize else activities


# Correlations of clusters


def _response_confusion(responses, labels):
    responses = check_array(
        responses, "model", ndim=2, axes="(n_images, n_neurons)", remedy="Or pass a callable."
    )
    labels = check_labels(labels, responses.shape[1])
    clusters = np.unique(labels)
    means = [responses[:, labels == cluster].mean(axis=1) for cluster in clusters]
    unit = _standardize(np.stack(means, axis=1))
    return _best_rotation((unit.T @ unit)[:, :, None, None], clusters)


def _predict(model, readouts, batch_size):
    """Responses (n_images, len(readouts)), from calls of at most ``batch_size`` readouts."""
    batches = []
    for start in range(0, len(readouts), batch_size):
        batch = readouts[start : start + batch_size]
        responses = check_array(
            model(batch), "model(readouts)", ndim=2, axes="(n_images, n_readouts)"
        )
        n_images = len(batches[0]) if batches else len(responses)
        if responses.shape != (n_images, len(batch)):
            raise ValueError(
                f"model(readouts) must have shape (n_images, n_readouts) = "
                f"({n_images}, {len(batch)}); got {responses.shape}. "
                "Return one column for each readout, and use the same images in each call."
            )
        batches.append(responses)
    return np.concatenate(batches, axis=1)


def _standardize(responses):
    """Columns with mean 0 and length 1, float64; columns that are constant become 0."""
    if len(responses) < 2:
        raise ValueError(
            f"model must give responses to at least 2 images to be correlated; "
            f"got {len(responses)}."
        )
    # constant up to the rounding of its own dtype
    rounding = 8 * np.finfo(responses.dtype).eps * np.abs(responses).max(axis=0)
    spread = np.ptp(responses, axis=0)
    constant = spread <= rounding
    centered = responses - responses.mean(axis=0, dtype=np.float64)
    centered /= np.where(constant, 1, spread)  # squares of small responses would underflow
    length = np.linalg.norm(centered, axis=0)
    return np.where(constant, 0, centered / np.where(constant, 1, length))


def _best_rotation(correlation, clusters):
    """ClusterConfusion from correlations (K, K, O, O) of all clusters at all rotations."""
    K, _, O, _ = correlation.shape
    common = np.arange(O)
    relative = (common + common[:, None]) % O
    # [p, q, s]: q is turned s bins further than p
    by_relative = correlation[:, :, common, relative].mean(axis=-1)
    best = by_relative.argmax(axis=-1)
    highest = by_relative.max(axis=-1).clip(-1, 1)
    p, q = np.tril_indices(K)  # mirrored, so that ties and rounding do not matter
    highest[p, q] = highest[q, p]
    best[p, q] = -best[q, p] % O
    np.fill_diagonal(highest, 1)
    np.fill_diagonal(best, 0)
    return ClusterConfusion(highest, best * (2 * np.pi / O), clusters)


# Blocks


def _blocks(tree, n_merges):
    """The blocks after so many rows of the tree."""
    K = len(tree) + 1
    members = {k: [k] for k in range(K)}
    for row in range(n_merges):
        a, b = tree[row, :2].astype(int)
        members[K + row] = members.pop(a) + members.pop(b)
    groups = sorted(members.values(), key=lambda group: (-len(group), min(group)))
    labels = np.empty(K, np.intp)
    for block, group in enumerate(groups):
        labels[group] = block
    return Blocks(labels, np.concatenate(groups).astype(np.intp), tree)


def _step(tree, row, into):
    """The merge of one row of the tree, or its reverse."""
    finer, coarser = _blocks(tree, row), _blocks(tree, row + 1)
    leaves = [_leaf(tree, int(node)) for node in tree[row, :2]]
    return BlockStep(
        pair=tuple(sorted(int(finer.labels[leaf]) for leaf in leaves)),
        merged=int(coarser.labels[leaves[0]]),
        correlation=float(1 - tree[row, 2]),
        blocks=coarser if into == "coarser" else finer,
    )


def _leaf(tree, node):
    """Some cluster below a node of the tree."""
    K = len(tree) + 1
    while node >= K:
        node = int(tree[node - K, 0])
    return node


def _check_confusion(confusion):
    confusion = getattr(confusion, "correlation", confusion)
    confusion = check_array(confusion, "confusion", ndim=2, axes="(K, K)", finite=False)
    if confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion must be square; got shape {confusion.shape}.")
    confusion = confusion.astype(np.float64)
    np.fill_diagonal(confusion, 1)
    confusion = check_array(confusion, "confusion")
    skew = np.abs(confusion - confusion.T).max()
    if skew > 1e-6:  # of correlations in float32
        raise ValueError(
            f"confusion must be symmetric; got entries that differ by {skew:.3g} from their mirror "
            "image. Pass (confusion + confusion.T) / 2."
        )
    if np.abs(confusion).max() > 1 + 1e-6:
        raise ValueError(
            f"confusion must hold correlations in [-1, 1]; got {confusion.min():.4g} to "
            f"{confusion.max():.4g}."
        )
    return confusion


# Optimal images


def _highest(model, mei, n_rotations, shifts, n_neurons, batch_size):
    """Highest activity of each neuron over all rotations and shifts of one MEI, (n_neurons,)."""
    highest = np.full(n_neurons, -np.inf)
    for images in _moved(mei, n_rotations, shifts, batch_size):
        activities = check_array(
            model(images), "model(images)", ndim=2, axes="(n_images, n_neurons)"
        )
        if activities.shape != (len(images), n_neurons):
            raise ValueError(
                f"model(images) must have shape (n_images, n_neurons) = "
                f"({len(images)}, {n_neurons}); got {activities.shape}. "
                "Restrict the model to the neurons that meis belong to."
            )
        np.maximum(highest, activities.max(axis=0), out=highest)
    return highest


def _moved(mei, n_rotations, shifts, batch_size):
    """Batches (n, H, W) of an MEI at all rotations and shifts."""
    height, width = mei.shape
    background = _background(mei)
    center = _center(mei - background)
    angles = 2 * np.pi * np.arange(n_rotations) / n_rotations
    turned = np.stack([_turn(mei, angle, center, background) for angle in angles])
    margins = np.abs(shifts).max(axis=0)
    pads = [(0, 0), *((margin, margin) for margin in margins)]
    turned = np.pad(turned, pads, constant_values=background)
    places = [(k, *(margins - shift)) for k in range(n_rotations) for shift in shifts]
    for start in range(0, len(places), batch_size):
        batch = places[start : start + batch_size]
        yield np.stack([turned[k, y : y + height, x : x + width] for k, y, x in batch])


def _background(mei):
    """Median of the pixels along the border."""
    inner = np.zeros(mei.shape, bool)
    inner[1:-1, 1:-1] = True
    return np.median(mei[~inner])


def _center(deviation):
    """The pixel (row, column) nearest to the center of the squared deviations."""
    power = deviation.astype(np.float64) ** 2
    if not power.any():
        power = np.ones_like(power)
    marginals = power.sum(axis=1), power.sum(axis=0)
    return np.array([round(np.arange(len(m)) @ m / m.sum()) for m in marginals])


def _turn(image, angle, center, background):
    """An image turned counter-clockwise on the screen about a pixel."""
    c, s = np.cos(angle), np.sin(angle)
    from_turned = np.array([[c, s], [-s, c]])  # (row, column) of the result to those of the image
    # "grid-constant": with "constant", rounding of the coordinates takes whole border pixels away
    return affine_transform(
        image,
        from_turned,
        offset=center - from_turned @ center,
        order=1,
        mode="grid-constant",
        cval=background,
    )


def _by_own(activities):
    own = np.diag(activities)
    if own.min() <= 0:
        raise ValueError(
            "model must drive each neuron above 0 by its own MEI to normalize; got "
            f"{own.min():.4g} for neuron {own.argmin()}. Leave such neurons out, or pass "
            "normalize=False."
        )
    return activities / own


def _check_shifts(shifts, size):
    """Shifts in pixels, (n_shifts, 2)."""
    if shifts is None:
        step = max(1, min(size) // 12)
        grids = [step * np.arange(-(n // 4 // step), n // 4 // step + 1) for n in size]
        return np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, 2)
    shifts = np.asarray(shifts)
    if shifts.dtype.kind not in "iu":
        raise TypeError(f"shifts must be whole pixels; got dtype {shifts.dtype}.")
    if shifts.ndim != 2 or shifts.shape[1] != 2 or len(shifts) == 0:
        raise ValueError(
            f"shifts must be (n_shifts, 2), rows and columns; got shape {shifts.shape}."
        )
    shifts = shifts.astype(np.intp)
    if np.any(np.abs(shifts) >= size):
        raise ValueError(
            f"shifts must be smaller than the images, {size[0]} x {size[1]}; got up to "
            f"{' x '.join(map(str, np.abs(shifts).max(axis=0)))}."
        )
    return shifts
