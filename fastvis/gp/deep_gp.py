"""Deep Gaussian processes: the estimator."""

import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from .._kernels import paths
from .._kernels.slots import Slots
from .._kernels.threads import one_blas_thread
from .._optim import Adam
from .._random import check_rng
from .._validation import check_array, check_choice, check_float, check_int
from .bounds import Sizes, WhitenedBound, evidence_bound
from .coupling import coupling_of
from .covariances import Covariance
from .files import layer_of, likelihood_of, read, write
from .flow import MonotonicFlow
from .flow_bound import FlowBound
from .functions import draw_functions, moments_of_layers
from .likelihoods import Bernoulli, Gaussian, StudentT
from .locations import LocationsBound
from .starts import start_locations, start_slopes
from .whitened import Chain, Factorized, Joint

POSTERIORS = {"factorized": Factorized, "chain": Chain, "joint": Joint, "locations": None}
FROZEN = ("hyperparameters", "inducing", "likelihood")


@dataclass(frozen=True, eq=False)
class GPLayer:
    """One layer of a `DeepGP`: independent Gaussian processes with one covariance.

    Parameters
    ----------
    kernel : Covariance
        Of each output; where its training starts.
    n_inducing : int
        M.
    n_outputs : int
    mean : {"zero", "identity"}
        Mean function. "identity" hands inputs on: for other numbers of outputs it takes the first
        principal components of the data, or appends zeros.
    inducing : ndarray, (M, n_inputs), optional
        Where inducing points start. By default evenly spread over (or, for several inputs, K-means
        centers of) what the mean functions make of the data.
    """

    kernel: object
    n_inducing: int = 50
    n_outputs: int = 1
    mean: str = "zero"
    inducing: np.ndarray | None = None

    def __post_init__(self):
        if not isinstance(self.kernel, Covariance):
            raise TypeError(
                f"kernel must be a covariance of fastvis.gp; got {type(self.kernel).__name__}."
            )
        check_int(self.n_inducing, "n_inducing", minimum=1)
        check_int(self.n_outputs, "n_outputs", minimum=1)
        check_choice(self.mean, "mean", ("zero", "identity"))


@dataclass(frozen=True)
class Elbo:
    """A lower bound on the log evidence, in nats: ``value = data - divergence``.

    ``standard_error`` is the Monte Carlo error of the value.
    """

    value: float
    standard_error: float
    data: float
    divergence: float


@dataclass(frozen=True, repr=False)
class Prediction:
    """Mean and variance of y at points, (n, T): of the mixture over paths, with noise."""

    mean: np.ndarray
    variance: np.ndarray

    def __repr__(self):
        return f"Prediction({len(self.mean)} points, {self.mean.shape[1]} outputs)"


class DeepGP(BaseEstimator):
    """A composition of Gaussian processes, f_L(...f_1(x)), fitted by variational inference.

    Parameters
    ----------
    layers : sequence of GPLayer
        From the inputs to the outputs. The first may be a `MonotonicFlow`.
    likelihood : Gaussian, StudentT or Bernoulli
    posterior : {"factorized", "chain", "joint", "locations"}
        Of the inducing values. "factorized": layers are independent (doubly stochastic variational
        inference, DSVI); hidden layers then collapse to nearly deterministic functions. "chain":
        each layer depends on the one before, with a block-tridiagonal precision; exact for any
        number of layers. "joint": one dense Gaussian. "locations": inducing points are the next
        layer's inducing locations; the most uncertain, and the slowest.
    marginalize : {"exact", "sampled"}
        For all but "locations": inducing values are integrated for each path, or drawn, once for
        all points of a sample (of larger variance; the paper's experiments).
    frozen : sequence of {"hyperparameters", "inducing", "likelihood"}
        What stays as it is given.
    prior_width : float, optional
        Standard deviation of a Gaussian prior on the log of each hyperparameter, about where it
        starts. None: no prior.
    scale : float or sequence of floats
        Standard deviation of the posterior, in those of the prior, where training starts; of each
        layer.
    jitter : float
        Added to the diagonal of covariances of inducing points, in units of its mean; nowhere else.
    natural_rate : float or None
        Of natural gradients, by which the posterior is trained, at most 1: the part of the way to
        the optimum that a step goes in a conjugate model. None: Adam, as for all else.
    learning_rate : float
        Of Adam, for hyperparameters and inducing points.
    n_steps : int
    n_samples : int
        Paths for each point in a training step.
    batch_size : int, optional
        Points in a step; all by default.
    progress : bool
    callback : callable, optional
        ``callback(step, elbo)``; true ends the training.
    rng : None, int or numpy.random.Generator

    Attributes
    ----------
    elbos_ : ndarray, (n_steps,)
        Its estimate in each training step.
    layers_ : list of GPLayer
        With the hyperparameters and inducing points after training; with "locations", those of all
        layers but the first are values of the layer before.
    likelihood_ : Gaussian, StudentT or Bernoulli
        After training.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Training ended at a lower ELBO than it began with.

    Raises
    ------
    ValueError
        Shapes that do not fit, fewer points than inducing points, values that are not finite, a
        covariance of inducing points that is not positive definite in spite of its jitter.

    References
    ----------
    Ustyuzhaninov, Kazlauskaite, Kaiser et al., "Compositional uncertainty in deep Gaussian
    processes", UAI 2020. Its (15) to (17) hold for two layers; here the posterior of any number of
    layers is integrated exactly. Salimbeni and Deisenroth, "Doubly stochastic variational inference
    for deep Gaussian processes", NeurIPS 2017.

    Examples
    --------
    >>> from fastvis.gp import DeepGP, Gaussian, GPLayer, SquaredExponential
    >>> x = np.linspace(-1, 1, 30)
    >>> y = np.sin(5 * x**3)
    >>> k = SquaredExponential()
    >>> layers = [GPLayer(k, 8, mean="identity"), GPLayer(k, 8)]
    >>> model = DeepGP(layers, Gaussian(0.01), "chain", n_steps=300, rng=0).fit(x, y)
    >>> bool(np.abs(model.predict(x, rng=0).mean[:, 0] - y).mean() < 0.1)
    True
    """

    def __init__(
        self, layers, likelihood=None, posterior="chain", *, marginalize="exact", frozen=(),
        prior_width=None, scale=0.1, jitter=1e-6, natural_rate=0.1,
        learning_rate=1e-2, n_steps=2000, n_samples=10,
        batch_size=None, progress=False, callback=None, rng=None,
    ):  # fmt: skip
        self.layers = layers
        self.likelihood = likelihood
        self.posterior = posterior
        self.marginalize = marginalize
        self.frozen = frozen
        self.prior_width = prior_width
        self.scale = scale
        self.jitter = jitter
        self.natural_rate = natural_rate
        self.learning_rate = learning_rate
        self.n_steps = n_steps
        self.n_samples = n_samples
        self.batch_size = batch_size
        self.progress = progress
        self.callback = callback
        self.rng = rng

    def fit(self, x, y):
        """Learn from observations.

        Parameters
        ----------
        x : array_like, (N,) or (N, D)
        y : array_like, (N,) or (N, T)
            T outputs of the last layer.

        Returns
        -------
        DeepGP
            Itself. Ctrl-C ends the training, and keeps what it has.
        """
        rng = check_rng(self.rng)
        x, y = self._start(x, y, rng)
        self._train(x, y, rng)
        return self

    def elbo(self, x, y, n_samples=100, *, rng=None):
        """Estimate the lower bound (5) on the log evidence of all observations.

        Returns
        -------
        Elbo
        """
        x, y = self._check_data(x, y)
        n_samples = check_int(n_samples, "n_samples", minimum=2)
        data, divergence, _, _ = evidence_bound(
            self._bound, self._likelihood, self._slots.views(self.parameters_), x, y, n_samples,
            1.0, check_rng(rng),
        )  # fmt: skip
        error = data.std(ddof=1) / np.sqrt(n_samples)
        terms = data.mean() - divergence, error, data.mean(), divergence
        return Elbo(*(float(term) for term in terms))

    def predict(self, x, n_samples=100, *, rng=None):
        """Return the `Prediction` of observations at points x, (n,) or (n, D)."""
        mean, deviation = self._outputs(x, n_samples, rng)
        mean, variance = self.likelihood_.marginal_moments(mean, deviation**2)
        return Prediction(mean.mean(0), variance.mean(0) + mean.var(0))

    def log_density(self, x, y, n_samples=100, *, rng=None):
        """Return log p(y | x, data) of each point, (n,): log-mean-exp over paths."""
        x, y = self._check_data(x, y)
        mean, deviation = self._outputs(x, n_samples, rng)
        values = self.likelihood_.log_marginal(y, mean, deviation**2)
        return logsumexp(values.sum(-1), axis=0) - np.log(len(values))

    def sample_paths(self, x, n=1, *, rng=None):
        """Draw paths of points through the layers, each point on its own.

        Parameters
        ----------
        x : array_like, (N,) or (N, D)
        n : int
            Draws for each point.

        Returns
        -------
        list of ndarray, (n, N, n_outputs)
            Values after each layer. Points of a draw do not belong to one function: see
            `sample_functions`.
        """
        x, rng = self._check_x(x), check_rng(rng)
        n = check_int(n, "n", minimum=1)
        f, deviation = self._paths(x, n, rng)
        hidden = f.shape[2] - deviation.shape[2]
        f[..., hidden:] += deviation * rng.standard_normal(deviation.shape)
        ends = np.cumsum([s.n_outputs for s in self._bound.sizes])
        return np.split(f, ends[:-1], axis=2)

    def sample_functions(self, grids, n=1, *, x=None, rng=None):
        """Draw functions of all layers, coherently: what one draw has in all layers fits together.

        Parameters
        ----------
        grids : sequence of array_like, (G_l,) or (G_l, n_inputs)
            Points of each layer's inputs; or one array, for all layers.
        n : int
        x : array_like, (N,) or (N, D), optional
            Points whose way through the same functions is wanted.

        Returns
        -------
        FunctionDraws
        """
        check_is_fitted(self, "parameters_")
        if isinstance(grids, np.ndarray):
            grids = [grids] * len(self.layers)
        grids = list(grids)
        if len(grids) != len(self.layers):
            raise ValueError(
                f"grids must have an array for each of {len(self.layers)} layers; got {len(grids)}."
            )
        grids = [
            _points(g, f"grids[{l}]", s.n_inputs)
            for l, (g, s) in enumerate(zip(grids, self._bound.sizes))
        ]
        x = None if x is None else self._check_x(x)
        n = check_int(n, "n", minimum=1)
        return draw_functions(
            self._bound, self._slots.views(self.parameters_), grids, x, n, check_rng(rng)
        )

    def layer_variance(self, x, n_samples=2000, *, rng=None):
        """Return Var f_l at points of each layer's own inputs, a list of (n, n_outputs).

        Parameters
        ----------
        x : array_like, (n,) or (n, n_inputs)
            The same points for all layers, or a list with an array for each.
        n_samples : int
            For the posterior "locations", whose inducing locations are drawn; others are exact.
        """
        check_is_fitted(self, "parameters_")
        check_int(n_samples, "n_samples", minimum=2)
        several = isinstance(x, list) and any(np.ndim(p) for p in x)
        points = x if several else [x] * len(self.layers)
        if len(points) != len(self.layers):
            raise ValueError(
                f"x must be points, or a list of points for each of {len(self.layers)} layers; got "
                f"a list of {len(points)}."
            )
        points = [
            _points(p, "x", s.n_inputs) for p, s in zip(points, self._bound.sizes, strict=True)
        ]
        parameters = self._slots.views(self.parameters_)
        moments = moments_of_layers(self._bound, parameters, points, n_samples, check_rng(rng))
        return [variance for _, variance in moments]

    def coupling(self, x, y, n_samples=1000, *, rng=None):
        """Return the `Coupling` of layers; x and y are the data, for the shuffle test."""
        x, y = self._check_data(x, y)
        n_samples = check_int(n_samples, "n_samples", minimum=2)
        parameters = self._slots.views(self.parameters_)
        return coupling_of(
            self._bound, parameters, self.likelihood_, x, y, n_samples, check_rng(rng)
        )

    def save(self, path):
        """Write the fitted model to an npz file, named exactly ``path``.

        A failed write leaves an older file as it was. ``callback`` and ``rng`` are not kept.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            No such folder; the path of a folder.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self, "parameters_")
        write(self, path)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            The file is truncated, damaged, or something else.
        """
        return read(cls, path)

    @classmethod
    def _restored(cls, config, arrays):
        """Make a model of what `files.write` wrote."""
        layers = [
            layer_of(GPLayer, layer, arrays.get(f"inducing_{l}"))
            for l, layer in enumerate(config["layers"])
        ]
        likelihood = likelihood_of(*config["likelihood"])
        parameters = {**config["parameters"], "frozen": tuple(config["parameters"]["frozen"])}
        model = cls(layers, likelihood, **parameters)
        model._check_parameters()
        slopes = [check_array(arrays[f"slope_{l}"], "slope", ndim=2) for l in range(len(layers))]
        widths = [layer.n_outputs for layer in layers]
        if [s.shape for s in slopes] != list(zip([len(slopes[0]), *widths[:-1]], widths)):
            raise ValueError("it has mean functions of another model")
        model._make_bound(layers, likelihood, slopes, arrays.get("locations"))
        model.parameters_ = check_array(arrays["parameters"], "parameters", ndim=1)
        if len(model.parameters_) != model._slots.size:
            raise ValueError("it has parameters of another model")
        model.elbos_, model.n_inputs_ = arrays["elbos"], len(slopes[0])
        model._finish()
        return model

    # Training

    def _start(self, x, y, rng):
        """Check everything, set the parameters to where they start; x (N, D), y (N, T)."""
        layers = self._check_parameters()
        x = _points(x, "x")
        y = _points(y, "y", layers[-1].n_outputs)
        _check_same(x, y)
        likelihood = Gaussian() if self.likelihood is None else self.likelihood
        likelihood.check(y)
        slopes = start_slopes(layers, x)
        given = [layer for layer in layers if isinstance(layer, MonotonicFlow)]
        if given and x.shape[1] != 1:
            raise ValueError(f"x must have 1 column for a MonotonicFlow; got shape {x.shape}.")
        most = max(
            (layer.n_inducing for layer in layers if layer not in given and layer.inducing is None),
            default=0,
        )
        if len(x) < most:
            raise ValueError(
                f"x must have at least {most} points, as many as inducing points; got {len(x)}. "
                "Take fewer inducing points, or give GPLayer(inducing=...)."
            )
        z = start_locations(layers, slopes, x, rng)
        self._make_bound(layers, likelihood, slopes, z[0])
        self.parameters_ = np.zeros(self._slots.size)
        parameters = self._slots.views(self.parameters_)
        scales = np.broadcast_to(self.scale, len(layers))
        self._bound.start(parameters, z, scales)
        parameters["likelihood"][:] = likelihood.theta
        self.n_inputs_ = x.shape[1]
        return x, y

    def _make_bound(self, layers, likelihood, slopes, locations):
        """``locations``: of the first layer, where it is a flow."""
        inputs = [slope.shape[0] for slope in slopes]
        sizes = [
            Sizes(d, layer.n_outputs, np.prod(layer.n_inducing), slope)
            for d, layer, slope in zip(inputs, layers, slopes)
        ]
        kernels = [layer.kernel for layer in layers]
        if isinstance(layers[0], MonotonicFlow):
            self._bound = FlowBound(
                sizes, kernels, POSTERIORS[self.posterior], self.jitter, locations,
                layers[0].n_steps,
            )  # fmt: skip
        elif self.posterior == "locations":
            self._bound = LocationsBound(sizes, kernels, self.jitter)
        else:
            self._bound = WhitenedBound(
                sizes, kernels, POSTERIORS[self.posterior], self.jitter,
                sampled=self.marginalize == "sampled",
            )  # fmt: skip
        self._likelihood = likelihood
        self._slots = Slots({**self._bound.shapes(), "likelihood": (len(likelihood.theta),)})

    def _train(self, x, y, rng):
        batch = len(x) if self.batch_size is None else min(self.batch_size, len(x))
        parameters, free = self._slots.views(self.parameters_), self._free()
        start, adam = self.parameters_.copy(), Adam(self.learning_rate)
        hyper = self._mask("theta")
        gradient = np.empty_like(self.parameters_)
        views, elbos = self._slots.views(gradient), []
        steps = range(self.n_steps)
        if self.progress:
            from tqdm.auto import tqdm

            steps = tqdm(steps, unit="step")
        try:
            for step in steps:
                rows = slice(None)
                if batch < len(x):
                    rows = rng.choice(len(x), batch, replace=False)
                data, divergence, slopes, _ = evidence_bound(
                    self._bound, self._likelihood, parameters, x[rows], y[rows], self.n_samples,
                    len(x) / batch, rng,
                )  # fmt: skip
                for name, slope in slopes.items():
                    views[name][...] = slope
                if self.prior_width is not None:
                    moved = (self.parameters_ - start) * hyper
                    gradient -= moved / self.prior_width**2
                elbos.append(data.mean() - divergence)
                if not np.isfinite(elbos[-1]):
                    raise FloatingPointError(
                        f"the ELBO is not finite at step {step}. Take a smaller learning_rate or a "
                        "larger jitter."
                    )
                self.parameters_ += free * adam.step(-gradient * free)
                if self.natural_rate is not None:
                    with one_blas_thread:  # as in `evidence_bound`
                        self._bound.natural_step(parameters, views, self.natural_rate)
                if self.callback is not None and self.callback(step, elbos[-1]):
                    break
        except KeyboardInterrupt:
            pass
        self.elbos_ = np.array(elbos)
        self._finish()
        part = len(elbos) // 10
        if part and np.median(elbos[-part:]) < np.median(elbos[:part]):
            warnings.warn(
                "training ended at a lower ELBO than it began with; see elbos_. Take a smaller "
                "natural_rate or learning_rate.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _finish(self):
        """Set what the parameters say in words."""
        parameters = self._slots.views(self.parameters_)
        self.layers_ = []
        for l, layer in enumerate(self.layers):
            kernel = layer.kernel.with_theta(parameters[l, "theta"])
            if isinstance(layer, MonotonicFlow):
                self.layers_.append(replace(layer, kernel=kernel))
                continue
            z = parameters.get((l, "z"))
            inducing = None if z is None else z.copy()
            self.layers_.append(replace(layer, kernel=kernel, inducing=inducing))
        self.likelihood_ = self._likelihood.with_theta(parameters["likelihood"])

    def _trained(self):
        """1 for all parameters that are not frozen, else 0."""
        free = np.ones(self._slots.size)
        names = {"hyperparameters": "theta", "inducing": "z", "likelihood": "likelihood"}
        for what in self.frozen:
            free -= self._mask(names[what])
        return free

    def _free(self):
        """1 for those that Adam moves."""
        free = self._trained()
        if self.natural_rate is not None:
            views = self._slots.views(free)
            for name in self._bound.natural_names():
                views[name][...] = 0
        return free

    def _mask(self, part):
        mask = np.zeros(self._slots.size)
        for name, view in self._slots.views(mask).items():
            if name == part or (isinstance(name, tuple) and name[1] == part):
                view[...] = 1
        return mask

    # Checks

    def _check_parameters(self):
        if not isinstance(self.layers, list | tuple):
            raise TypeError(f"layers must be a list of GPLayer; got {type(self.layers).__name__}.")
        if isinstance(self.frozen, str):
            raise TypeError(f"frozen must be a tuple of names; got {self.frozen!r}. Add a comma.")
        if not isinstance(self.likelihood, Gaussian | StudentT | Bernoulli | None):
            raise TypeError(
                "likelihood must be Gaussian(...), StudentT(...) or Bernoulli(); got "
                f"{self.likelihood!r}."
            )
        layers = list(self.layers)
        flows = bool(layers) and isinstance(layers[0], MonotonicFlow)
        if not layers[flows:] or not all(isinstance(layer, GPLayer) for layer in layers[flows:]):
            raise TypeError(
                "layers must be a sequence of one or more GPLayer, before which may stand a "
                "MonotonicFlow."
            )
        of_flows = self.posterior in ("factorized", "chain") and self.marginalize == "exact"
        if flows and not of_flows:
            raise ValueError(
                "posterior must be 'factorized' or 'chain', and marginalize 'exact', with a "
                f"MonotonicFlow; got {self.posterior!r} and {self.marginalize!r}."
            )
        n_rows = sum(layer.n_outputs for layer in layers)
        if len(layers) > paths.MOST_LAYERS or n_rows > paths.MOST_ROWS:
            raise ValueError(
                f"layers must be at most {paths.MOST_LAYERS}, with {paths.MOST_ROWS} outputs in "
                f"all; got {len(layers)} with {n_rows}."
            )
        check_choice(self.posterior, "posterior", tuple(POSTERIORS))
        check_choice(self.marginalize, "marginalize", ("exact", "sampled"))
        for what in self.frozen:
            check_choice(what, "frozen", FROZEN)
        check_float(self.jitter, "jitter", minimum=0)
        if self.natural_rate is not None:
            check_float(self.natural_rate, "natural_rate", minimum=0, maximum=1, strict=True)
        check_float(self.learning_rate, "learning_rate", minimum=0, strict=True)
        check_int(self.n_steps, "n_steps", minimum=0)
        check_int(self.n_samples, "n_samples", minimum=1)
        if self.batch_size is not None:
            check_int(self.batch_size, "batch_size", minimum=1)
        if self.prior_width is not None:
            check_float(self.prior_width, "prior_width", minimum=0, strict=True)
        scales = check_array(self.scale, "scale", ndim=(0, 1))
        if scales.shape not in ((1,), (len(layers),)):
            raise ValueError(
                f"scale must be a number, or one for each of {len(layers)} layers; got {scales}."
            )
        for scale in scales:
            check_float(float(scale), "scale", minimum=0, strict=True)
        counts = {layer.n_inducing for layer in layers}
        if self.posterior == "locations" and len(counts) > 1:
            raise ValueError(
                "n_inducing must be the same in all layers for the posterior 'locations'; got "
                f"{sorted(counts)}."
            )
        return layers

    def _check_x(self, x):
        check_is_fitted(self, "parameters_")
        return _points(x, "x", self.n_inputs_)

    def _check_data(self, x, y):
        x, y = self._check_x(x), _points(y, "y", self._bound.sizes[-1].n_outputs)
        _check_same(x, y)
        self._likelihood.check(y)
        return x, y

    # Paths

    def _paths(self, x, n_samples, rng):
        """Values of all rows on paths, (n_samples, N, n_rows), and deviations of the last ones."""
        bound = self._bound
        theta, prepared = bound.prepare(self._slots.views(self.parameters_), n_samples, rng)
        flows = isinstance(bound, FlowBound)
        points = bound.enter(x, prepared) if flows else x
        xi = rng.standard_normal((n_samples * len(x), bound.layout.n_hidden))
        f, deviation = paths.sample(bound.layout, theta, points, xi)
        if flows:
            f = np.concatenate([points, f], axis=1)
        shape = n_samples, len(x), -1
        return f.reshape(shape), deviation.reshape(shape)

    def _outputs(self, x, n_samples, rng):
        """Means and deviations of the outputs on paths, (n_samples, N, T)."""
        n_samples = check_int(n_samples, "n_samples", minimum=1)
        f, deviation = self._paths(self._check_x(x), n_samples, check_rng(rng))
        return f[..., -deviation.shape[2] :], deviation


def _points(x, name, n_columns=None):
    """Return points (n, D) in float64."""
    x = check_array(x, name, ndim=(1, 2), axes="(n,) or (n, D)").astype(np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if n_columns is not None and x.shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} column(s); got shape {x.shape}.")
    return np.ascontiguousarray(x)


def _check_same(x, y):
    if len(x) != len(y):
        raise ValueError(f"x and y must be of the same length; got {len(x)} and {len(y)}.")
