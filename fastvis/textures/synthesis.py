"""New samples of a texture, by matching the Gram matrix of a reference image."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage

from .._random import check_rng
from .._validation import check_image, check_int, check_size
from .arguments import (
    OutputLike,
    as_image,
    check_bounds,
    check_extent,
    check_model,
    check_options,
    default_model,
)
from .metrics import diversity
from .optimize import minimize_pixels

COARSE_ITERATIONS = 100  # 40 to 100 are best; more cost more than they save


@dataclass(frozen=True, repr=False, eq=False)
class SynthesisSamples:
    """Several samples of one texture.

    Attributes
    ----------
    results : tuple of SynthesisResult
    diversity : float
        How much the samples differ, whatever the shift between them: see `metrics.diversity`.
    """

    results: tuple
    diversity: float

    @property
    def images(self):
        """The images as a list."""
        return [result.image for result in self.results]

    def __len__(self):
        return len(self.results)

    def __getitem__(self, i):
        return self.results[i]

    def __iter__(self):
        return iter(self.results)

    def __repr__(self):
        losses = ", ".join(f"{result.loss:.3g}" for result in self.results)
        return f"SynthesisSamples(losses=[{losses}], diversity={self.diversity:.3g})"


def synthesize(
    reference,
    model=None,
    *,
    size=None,
    init=None,
    max_iter=2000,
    bounds=(0.0, 1.0),
    tol=0.0,
    target_loss=0.0,
    coarse_levels=0,
    n_samples=None,
    rng=None,
    progress=False,
    callback=None,
):
    """Grow a new texture with the statistics of a reference image.

    Minimizes the relative error of the Gram matrix (5) over the pixels with L-BFGS-B, in a box.

    Parameters
    ----------
    reference : array_like, (H, W, C) or (H, W); or torch.Tensor, (C, H, W) or (1, C, H, W)
        Values within ``bounds``; uint8 is divided by 255. uint8 and float32 are synthesized in
        float32, all others in float64. A CUDA tensor runs on its GPU.
    model : GramModel or VGGLoss, optional
        The statistics. By default 8 x 128 random filters of 3 to 55 px with zero padding, the
        reference's channel means subtracted. With ``padding="periodic"`` the result can be tiled.
    size : int or (height, width), optional
        Of the result; that of ``init`` or of the reference by default. May be larger.
    init : array_like, optional
        Where to start; uniform noise within ``bounds`` by default.
    max_iter : int
        Iterations (not evaluations) at most.
    bounds : (float, float)
        The range of the pixels.
    tol : float
        Stop as converged when an iteration lowers the loss by less than this fraction. 0: never.
    target_loss : float
        Stop when the loss is at most this.
    coarse_levels : int
        How many times the reference is halved first: each level is synthesized for at most 100
        iterations, and ``max_iter // 4``, and enlarged to be the start of the next. Reaches a small
        loss in less time than noise as a start does where the texture has large structure (one
        level, 128 px, a loss of 1e-4: bricks 3 times faster, gravel equally fast). Not with
        ``init``.
    n_samples : int, optional
        Return this many samples, from independent noise, with a measure of their diversity.
    rng : None, int or numpy.random.Generator
        Draws the filters of the default model, then the noise. The same seed gives the same
        bytes, for any number of threads, with a `GramModel`.
    progress : bool
        Show a bar.
    callback : callable, optional
        ``callback(iteration, loss, image)`` after each iteration of the finest level, with the
        image as an array (H, W, C); a true value, or StopIteration, ends the run.

    Returns
    -------
    SynthesisResult, or SynthesisSamples if ``n_samples`` is given
        Images of the reference's kind and number of dimensions.

    Raises
    ------
    ValueError
        Values outside the bounds, NaN, wrong channels, a size below 2, an ``init`` of another
        size, a constant reference (its Gram matrix may be zero).
    TypeError
        Arguments of the wrong kind.

    Notes
    -----
    Ctrl-C ends the run with the best image so far. While it runs, BLAS has one thread in the whole
    process; the kernels run their own.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2017, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank, GramModel, synthesize
    >>> reference = np.random.default_rng(0).random((16, 16, 3))
    >>> model = GramModel(FilterBank.random(sizes=(3, 5), n_maps=8, rng=0))
    >>> result = synthesize(reference, model, max_iter=50, rng=1)
    >>> result.image.shape, result.stopped_by
    ((16, 16, 3), 'max_iter')
    >>> bool(result.loss < 0.01 * result.losses[0])
    True
    """
    like = OutputLike(reference)
    reference, init = as_image(reference), as_image(init)
    bounds = check_bounds(bounds)
    channels = None if check_model(model) is None else model.channels
    reference = check_image(reference, "reference", channels=channels, bounds=bounds)
    if init is not None:
        init = check_image(init, "init", channels=reference.shape[2], bounds=bounds)
        init = init.astype(reference.dtype, copy=False)
    if size is None:
        size = (reference if init is None else init).shape[:2]
    size = check_size(size)
    check_extent(reference.shape, "reference")
    check_extent(size, "size")
    if init is not None and init.shape[:2] != size:
        raise ValueError(f"init must have the size {size}; got shape {init.shape}.")
    levels = _pyramid(reference, check_int(coarse_levels, "coarse_levels", minimum=0))
    if len(levels) > 1 and init is not None:
        raise ValueError("coarse_levels must be 0 with an init; got both. Pass one of them.")
    options = check_options(max_iter, tol, target_loss, progress, callback)
    n = 1 if n_samples is None else check_int(n_samples, "n_samples", minimum=2)
    if n > 1 and init is not None:
        raise ValueError("n_samples needs noise to start from; got an init, too. Pass one of them.")
    rng = check_rng(rng)

    model = default_model(reference, rng) if model is None else model
    model = like.model(model)
    targets = [model.target(level) for level in levels]
    results = []
    while len(results) < n and not (results and results[-1].stopped_by == "interrupted"):
        try:
            result = _descend(model, targets, size, init, bounds, options, rng, reference.dtype)
        except KeyboardInterrupt:  # before this sample's first evaluation
            if not results:
                raise
            break
        results.append(result)
    if n_samples is None:
        return like.result(results[0])
    variety = diversity([result.image for result in results]) if len(results) > 1 else np.nan
    return SynthesisSamples(tuple(like.result(result) for result in results), variety)


def _descend(model, targets, size, init, bounds, options, rng, dtype):
    """From noise at the coarsest level to the finest level's result."""
    result, n_evaluations = None, 0
    for level in reversed(range(len(targets))):
        level_size = tuple(max(2, -(-n // 2**level)) for n in size)
        if result is not None:
            init = _enlarge(result.image, level_size, bounds)
        elif init is None:
            init = rng.uniform(*bounds, (*level_size, model.channels)).astype(dtype)
        coarse = {}
        if level:
            few = min(COARSE_ITERATIONS, options["max_iter"] // 4)
            coarse = {"max_iter": few, "callback": None}
        target = targets[level]
        try:
            result = minimize_pixels(
                lambda image, target=target: model.loss_and_grad(image, target),
                init,
                bounds=bounds,
                **{**options, **coarse},
            )
        except KeyboardInterrupt:  # before this level's first evaluation
            if result is None:
                raise
            result = replace(result, stopped_by="interrupted", n_evaluations=0)
        n_evaluations += result.n_evaluations
        if result.stopped_by == "interrupted":
            break
    if result.image.shape[:2] != size:
        image = _enlarge(result.image, size, bounds)
        result = replace(result, image=image, loss=model.loss_and_grad(image, targets[0])[0])
    return replace(result, n_evaluations=n_evaluations)


def _pyramid(reference, n_levels):
    """The reference and its means over 2 x 2 pixels, ``n_levels`` times; odd rests are left out."""
    levels = [reference]
    for _ in range(n_levels):
        image = levels[-1]
        height, width = (n // 2 * 2 for n in image.shape[:2])
        if min(height, width) < 4:
            raise ValueError(
                f"coarse_levels must leave 2 x 2 pixels of the reference; got {n_levels} for "
                f"{reference.shape[0]} x {reference.shape[1]}. Use fewer levels."
            )
        image = image[:height, :width]
        corners = image[::2, ::2], image[1::2, ::2], image[::2, 1::2], image[1::2, 1::2]
        levels.append(sum(corners) / 4)
    return levels


def _enlarge(image, size, bounds):
    zoom = (size[0] / image.shape[0], size[1] / image.shape[1], 1)
    larger = scipy.ndimage.zoom(image, zoom, order=1, mode="grid-wrap", grid_mode=True)
    return np.clip(larger, *bounds)
