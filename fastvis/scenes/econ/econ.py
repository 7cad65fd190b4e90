"""ECON, an ensemble of competing object networks, as an estimator; imports torch."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from ..._random import check_rng
from ..._validation import check_choice, check_float, check_int
from ..compositing import composite
from .arguments import check_architecture, check_extent
from .decomposition import check_images, check_regions
from .estimator import SceneModel
from .model import Competition, Experts
from .networks import Expert
from .presets import PRESETS
from .training import as_network_input
from .warmup import start_colors

COMPETITIONS = {"reconstruction": 1.0, "region": 0.0}  # lambda
MOMENTS_BATCH = 100  # images
TINY_VARIANCE = 1e-6  # of latents that do not vary; the prior's is 1


@dataclass(frozen=True, repr=False, eq=False)
class SampledScenes:
    """Scenes that experts painted, layer over layer.

    Attributes
    ----------
    image : ndarray of float32, (n, H, W, 3)
    regions : ndarray of bool, (n, T, H, W)
        What is seen of each layer, the background first.
    shapes : ndarray of bool, (n, T, H, W)
        Whole shapes. The first is everywhere.
    appearances : ndarray of float32, (n, T, H, W, 3)
    experts : ndarray of int, (n, T)
    """

    image: np.ndarray
    regions: np.ndarray
    shapes: np.ndarray
    appearances: np.ndarray
    experts: np.ndarray

    def __repr__(self):
        n, n_layers, height, width = self.shapes.shape
        return f"SampledScenes({n} images of {height} x {width} pixels, {n_layers} layers)"


class ECON(SceneModel):
    """Take layered scenes apart by a competition of experts, and put new ones together.

    At each step, from front to back, experts compete for a part of what is left of the image. Each
    has an attention network, which finds a region, and a variational autoencoder, which
    reconstructs its appearance and its whole shape. Only the winner learns, so that experts become
    experts of classes.

    Parameters
    ----------
    n_experts : int
        Classes of objects, and one for the background.
    n_steps : int
        Layers of a scene in training, the background among them.
    latent_dim, n_layers, n_features : int
        Of the autoencoders: latents, and convolutions of so many features in the encoder and the
        decoder. The encoder halves the image once a layer.
    attention_channels : tuple of int
        Of the blocks of the attention networks.
    beta, gamma : float
        Weights of the divergence of latents (11) and of regions (12) in (13). A bound on the
        likelihood, up to constants, only for values of at least 1.
    sigma_x : float
        Standard deviation of pixels in (10); images are in [0, 1].
    competition : {"reconstruction", "region"} or float
        The cost of an expert: (10) + (12), for classes that differ in color; or (12) alone, for
        classes that differ in shape; or the weight lambda of (10).
    temperature : float
        In training, an expert wins with a probability in proportion to exp(-cost / temperature); 0
        lets the smallest cost win. It always wins in validation and `decompose`.
    least_region : float
        Fraction of the pixels of which a winner must take more than half, unless no expert does.
        An empty region costs nothing, and would win.
    warmup_steps : int
        Training steps before the competition begins, for classes that differ in color; see Notes.
    learning_rate, batch_size : float, int
        Of Adam.
    validate_every, patience, n_drops : int
        Every so many steps the validation loss is computed; after `patience` validations without
        improvement the learning rate falls by sqrt(10), and training ends after so many falls.
    progress : bool
        Show a progress bar.
    callback : callable, optional
        ``callback(step, validation_loss)`` after each validation; true ends the training.
    rng : None, int or numpy.random.Generator
        For weights, batches, latents and winners.

    Attributes
    ----------
    module_ : torch.nn.Module
        The networks. `decompose` runs on the device where it is: ``model.module_.to("cuda")``.
    size_ : tuple of two ints
        Height and width of images.
    steps_, losses_, learning_rates_ : ndarray, (n_validations,)
        Step, validation loss and learning rate of each validation. Where `max_steps` ends training
        between two, there is one more.
    stopped_by_ : str
        "schedule", "max_steps", "callback", "interrupted" by Ctrl-C, which keeps what was learned,
        or "diverged": a validation loss was not finite, and the weights are of no use. Then `fit`
        warns, and ``last.ckpt`` is that of the validation before.

    Raises
    ------
    TypeError, ValueError
        Parameters of another kind, or out of their range.

    Notes
    -----
    The region is scope times attention, and the next scope what is left of the scope, so that
    regions sum to one; with the paper's (14) they would not. In the last step attention is one.

    Without a warm-up, few runs end with an expert for each class: one expert may win everything, or
    take two classes, or share the background with another. The warm-up is not in the paper. In it
    the experts' regions are those of the K-means colors of pixels: all experts learn by (13) to
    reconstruct theirs, and their attention to find them, in random scopes. Depth order, whole
    shapes and whatever colors do not tell is left to the competition.

    References
    ----------
    von Kügelgen, Ustyuzhaninov et al., "Towards causal generative scene models via competition of
    experts", ICLR 2020 workshop, sections 4 and 5, equations (4) to (14), appendix C.

    Examples
    --------
    >>> from fastvis.scenes.econ import ECON
    >>> images = np.random.default_rng(0).random((8, 16, 16, 3))
    >>> model = ECON(2, 2, n_layers=2, n_features=4, attention_channels=(4, 4), rng=0)
    >>> parts = model.fit(images, max_steps=2).decompose(images)
    >>> parts.region.shape, bool(np.allclose(parts.region.sum(axis=1), 1))
    ((8, 2, 16, 16), True)
    >>> model.sample([0, 1, 1], n=5, rng=0)
    SampledScenes(5 images of 16 x 16 pixels, 3 layers)
    """

    def __init__(
        self,
        n_experts=4,
        n_steps=4,
        *,
        latent_dim=2,
        n_layers=4,
        n_features=32,
        attention_channels=(32, 64, 64, 64),
        beta=0.52,
        gamma=9.54,
        sigma_x=0.15,
        competition="reconstruction",
        temperature=1.0,
        least_region=0.005,
        warmup_steps=0,
        learning_rate=5e-4,
        batch_size=32,
        validate_every=100,
        patience=5,
        n_drops=5,
        progress=False,
        callback=None,
        rng=None,
    ):
        self.n_experts = n_experts
        self.n_steps = n_steps
        self.latent_dim = latent_dim
        self.n_layers = n_layers
        self.n_features = n_features
        self.attention_channels = attention_channels
        self.beta = beta
        self.gamma = gamma
        self.sigma_x = sigma_x
        self.competition = competition
        self.temperature = temperature
        self.least_region = least_region
        self.warmup_steps = warmup_steps
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validate_every = validate_every
        self.patience = patience
        self.n_drops = n_drops
        self.progress = progress
        self.callback = callback
        self.rng = rng

    @classmethod
    def preset(cls, name, colors="by_class", **parameters):
        """Return a model with the parameters of a preset.

        Parameters
        ----------
        name : {"smoke", "cpu", "gpu"}
            "smoke" runs in seconds and learns little; "cpu" is for 32 x 32 pixels; "gpu" for
            64 x 64, with the paper's architectures.
        colors : {"by_class", "random"}
            Colors of the scenes, as for `sprites`. Random ones let regions alone compete.
        **parameters
            What to change.

        Returns
        -------
        ECON

        Examples
        --------
        >>> from fastvis.scenes.econ import ECON
        >>> ECON.preset("gpu", "random", rng=0).gamma
        3.26
        """
        check_choice(name, "name", tuple(PRESETS))
        check_choice(colors, "colors", ("by_class", "random"))
        return cls(**{**PRESETS[name][colors], **parameters})

    def fit(
        self, images, *, validation=None, regions=None, trainer=None, max_steps=None,
        checkpoints=None, resume=False,
    ):  # fmt: skip
        """Learn from images.

        The weights are those of the last step, not of the smallest validation loss.

        Parameters
        ----------
        images : array_like, (N, H, W, 3)
            uint8, or floats in [0, 1]; 50,000 in the paper.
        validation : array_like, (M, H, W, 3), optional
            A tenth of the images, at most 100, are held out by default: the last ones.
        regions : array_like of bool, (N, T, H, W), optional
            True regions, front first, in the place of the experts' attention, which then learns
            nothing. The last step takes what the others leave.
        trainer : lightning.Trainer, optional
            One with max_steps, checkpoints and callbacks of your own; an epoch is `validate_every`
            steps.
        max_steps : int, optional
            Training ends here if the schedule has not ended it before.
        checkpoints : path, optional
            Folder for a checkpoint ``last.ckpt``, every `validate_every` steps.
        resume : bool
            Go on from the checkpoint, if there is one. The result is that of a run that was never
            interrupted, if the images are the same. Other parameters are refused, but for
            `callback`, `progress` and `rng`, whose seed is in the checkpoint.

        Returns
        -------
        ECON
            This object.

        Raises
        ------
        TypeError, ValueError
            Images of another shape or out of [0, 1], too small for the networks, regions of
            another shape; settings that the trainer brings; a checkpoint that is damaged, or of
            other parameters.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            Training diverged.
        """
        if regions is not None:
            regions = check_regions(regions, check_images(images), self.n_steps)
        return self._fit(images, regions, validation, trainer, max_steps, checkpoints, resume)

    def decompose(self, images, *, n_steps=None, regions=None, batch_size=100):
        """Take images apart, from front to back.

        Parameters
        ----------
        images : array_like, (N, H, W, 3)
            Of the size of the fit: uint8, or floats in [0, 1].
        n_steps : int, optional
            More steps than in training for scenes with more objects.
        regions : array_like of bool, (N, T, H, W), optional
            True regions, as for `fit`, for T steps: the experts then tell appearances and whole
            shapes only.
        batch_size : int
            Images worked on at once.

        Returns
        -------
        Decomposition

        Raises
        ------
        ValueError
            Images of another size, or out of [0, 1]; regions of another shape.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        return self._decompose(images, n_steps, batch_size, regions)

    def sample(self, experts, n=1, rng=None, *, like=None):
        """Paint new scenes: layers of chosen experts, the background first.

        Parameters
        ----------
        experts : sequence of int, (T,), or array_like of int, (n, T)
            The experts of all scenes, or of each. Any number, in any order, also the same again.
        n : int
            Scenes, if they have the same experts.
        rng : None, int or numpy.random.Generator
        like : array_like, (N, H, W, 3), optional
            Images, some hundred of them, as those of the fit: latents are drawn from the Gaussian
            with the mean and the covariance of those that the expert finds in these images. See
            Notes.

        Returns
        -------
        SampledScenes

        Raises
        ------
        TypeError, ValueError
            Experts that do not exist; images in which an expert finds too little.

        Notes
        -----
        Without ``like`` latents are drawn from their prior, as in the paper; a pixel belongs to a
        shape where its probability (4) is above one half, and has the mean (5) of its appearance.
        The first layer fills the canvas.

        A `beta` below 1 lets latents lie apart from the prior. Where there are more of them than
        ways in which objects differ, they lie on a thin sheet, beside which most draws from the
        prior fall; then what is painted is small, or nothing. ``like`` mends that.
        """
        check_is_fitted(self, "module_")
        experts = _check_experts(experts, check_int(n, "n", minimum=1), len(self.module_.experts))
        chosen = np.unique(experts)
        moments = None if like is None else self._latent_moments(like, chosen)
        generator = torch.Generator().manual_seed(int(check_rng(rng).integers(2**31)))
        latent_dim = self.module_.experts[0].decoder.latent_dim
        shapes = np.empty((*experts.shape, *self.size_), bool)
        appearances = np.empty((*shapes.shape, 3), np.float32)
        for k in chosen:
            where = experts == k
            latents = torch.randn(int(where.sum()), latent_dim, generator=generator)
            if moments is not None:
                mean, factor = moments[k]
                latents = mean + latents @ factor.T
            with torch.no_grad():
                painted = self.module_.paint(int(k), latents)
            appearance, shape = (x.permute(0, 2, 3, 1).cpu().numpy() for x in painted)
            appearances[where], shapes[where] = appearance, shape[..., 0] > 0.5
        shapes[:, 0] = True
        scene = composite(shapes, appearances)
        return SampledScenes(scene.image, scene.regions, shapes, appearances, experts)

    @torch.no_grad()
    def _latent_moments(self, images, experts):
        """Mean (L,) and Cholesky factor of the covariance (L, L) of latents of each expert."""
        images = torch.from_numpy(check_images(images, "like", self.size_))
        device = next(self.module_.parameters()).device
        batches = [as_network_input(x.to(device)) for x in images.split(MOMENTS_BATCH)]
        found = [torch.cat(x) for x in zip(*(self.module_.latents(x) for x in batches))]
        moments = {}
        for k in experts:
            latents = found[k].cpu().double()
            latent_dim = latents.shape[1]
            if len(latents) <= latent_dim:
                raise ValueError(
                    f"like must be images in which expert {k} explains more than "
                    f"{latent_dim} layers; got {len(latents)} in {len(images)} image(s). Pass "
                    "more of them, or leave like out."
                )
            covariance = torch.atleast_2d(latents.T.cov())
            ridge = TINY_VARIANCE * torch.eye(latent_dim, dtype=torch.float64)
            factor = torch.linalg.cholesky(covariance + ridge)
            moments[k] = latents.mean(0).float(), factor.float()
        return moments

    def _check_parameters(self):
        check_architecture(self)
        check_int(self.n_experts, "n_experts", minimum=1)
        for name in ("beta", "gamma", "temperature", "least_region"):
            check_float(getattr(self, name), name, minimum=0)
        check_float(self.least_region, "least_region", maximum=1)
        check_float(self.sigma_x, "sigma_x", minimum=0, strict=True)
        self._appearance_weight()

    def _appearance_weight(self):
        if isinstance(self.competition, str):
            return COMPETITIONS[check_choice(self.competition, "competition", tuple(COMPETITIONS))]
        return check_float(self.competition, "competition", minimum=0)

    def _build(self, size):
        check_extent(self, size)
        networks = [
            Expert(size, self.latent_dim, self.n_layers, self.n_features, self.attention_channels)
            for _ in range(self.n_experts)
        ]
        competition = Competition(self._appearance_weight(), self.temperature, self.least_region)
        objective = self.sigma_x, self.beta, self.gamma
        return Experts(networks, self.n_steps, objective, competition, self.warmup_steps)

    def _start(self, module, images, seed):
        if self.warmup_steps > 0:
            start_colors(module, images, seed)


def _check_experts(experts, n, n_experts):
    """Return experts as ints (n, T)."""
    experts = np.asarray(experts)
    if experts.dtype.kind not in "iu" or experts.ndim not in (1, 2) or experts.size == 0:
        raise TypeError(
            "experts must be a sequence of ints, or an array (n, T) of them; got "
            f"{experts.dtype} of shape {experts.shape}."
        )
    if experts.min() < 0 or experts.max() >= n_experts:
        raise ValueError(
            f"experts must be in 0 to {n_experts - 1}; got {experts.min()} to {experts.max()}."
        )
    if experts.ndim == 2 and n not in (1, len(experts)):
        raise ValueError(f"n must be {len(experts)}, the rows of experts, or left out; got {n}.")
    return experts if experts.ndim == 2 else np.tile(experts, (n, 1))
