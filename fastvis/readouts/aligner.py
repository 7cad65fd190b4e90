"""Alignment of a population of readouts, as a scikit-learn estimator."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._kernels.rotation import spectrum
from .._random import check_rng
from .._validation import check_choice, check_float, check_int
from . import files
from .arguments import check_labels, check_readouts, like_input
from .beta_path import LEAST_TEMPERATURE, fit_exact, fit_relaxed
from .fitting import OPTIMIZERS, reported
from .newcomers import angles_among
from .noise import within_types
from .objective import OBJECTIVES, AlignmentLoss, random_groups
from .procrustes import energy_angles
from .rotation import ROTATIONS, check_comparable, gains_of, turned

COLLAPSED = 0.5  # temperature
N_DIAGNOSED = 4096  # neurons at most whose distances are reported
FITS = {"fourier": fit_exact, "von_mises": fit_relaxed}


class RotationAligner(TransformerMixin, BaseEstimator):
    """Turn every neuron's readout so that neurons of the same type look the same.

    Finds an angle for each neuron that makes the mean distance of all pairs of turned readouts
    small, eq (3). It starts from the alignment to a common mean (generalized Procrustes analysis)
    and goes on by L-BFGS.

    Parameters
    ----------
    n_orientations : int
        Of flat readouts; readouts of three axes must have as many. At least 2; with 2, exact
        rotations are by 0 or pi.
    objective : {"distance", "energy"}
        The paper's distances, which cost O(n_neurons^2), or their squares, O(n_neurons): these pull
        all neurons to one mean, where distances leave several types apart.
    beta : float or "path"
        Weight, at least 0, of the reconstruction in (5), which keeps the temperature up. "path"
        takes the paper's 20 values and, among fits with a temperature above 5, the one with the
        smallest alignment loss; the largest temperature, and a warning, where there is none. With
        exact rotations beta only sets the temperature: then it is the smallest one above 5.
    rotation : {"fourier", "von_mises"}
        How neurons are turned. "fourier" is exact: angles minimize (3), and the temperature then
        minimizes (5). "von_mises" is the paper's: angles and temperature minimize (5) together.
        See Notes.
    normalize : {None, "l2"}
        Divide each neuron's readout by its length first; a readout of zeros stays.
    n_init : int
        Starts of the Procrustes analysis; the best is kept.
    max_iter : int
        Iterations of a fit at most; 0 leaves the Procrustes angles.
    tol : float
        A fit ends when five iterations ("adam": 125, at the last rate) lower the loss by less than
        this fraction.
    optimizer : {"lbfgs", "adam"}
        "adam" is the paper's: learning rate 0.01, lowered three times.
    n_partners : int, optional
        Compare each neuron with about as many others, drawn at random, and not with all: time and
        memory are then O(n_neurons n_partners). An approximation, for very large populations and
        ``objective="distance"``; the losses are means over these pairs.
    layout : {"feature", "orientation"}
        Which index runs slowest in a flat row.
    progress : bool
        Show a progress bar.
    callback : callable, optional
        ``callback(iteration, loss)`` after each iteration; true ends the fit.
    rng : None, int or numpy.random.Generator
        For the starts and partners.

    Attributes
    ----------
    angles_ : ndarray, (n_neurons,)
        Counter-clockwise rotation from the canonical neuron to this one, radians in [0, 2 pi).
        Defined up to a common shift: it is such that the population's largest mean square is at
        orientation 0. A neuron that is the same at all orientations has angle 0.
    temperature_ : float
        The paper's T, for von Mises rotations.
    beta_ : float
        As given, or chosen on the path.
    aligned_ : ndarray
        The readouts turned back by `angles_` with `rotation`, in the shape of the input; float32
        and float64 keep their dtype.
    loss_ : float
        Of the objective at the end: (3) with exact rotations, or (5).
    loss_curve_ : ndarray, (n_iter + 1,)
        The same at the start and after each iteration.
    alignment_losses_ : dict
        Mean distance of pairs (3) of neurons turned by "cyclic" (2), "von_mises" (4) and "fourier"
        rotation (without its highest frequency): the first two get smaller by blurring alone. Of
        more than 4,096 neurons, over so many evenly picked.
    path_ : BetaPath
        With ``beta="path"``.
    stopped_by_ : str
        "tolerance", "max_iter", "line_search" (no lower loss along the search direction: the limit
        of the dtype's precision, usually), "callback" or "interrupted": Ctrl-C keeps the best so
        far, once there is one.

    Raises
    ------
    ValueError
        A single neuron or orientation, NaN, columns that are no multiple of `n_orientations`,
        negative beta, `n_partners` with ``objective="energy"``.

    Notes
    -----
    Why not (5) by default: relaxed and interpolated rotations blur readouts between two
    orientations, which makes them shorter and nearer to each other. The minimum of (5) has most
    neurons halfway, at large temperatures, up to half a step away from where they belong: for 1,000
    neurons of 5 types with 8 orientations and noise of 0.3, angles are off by 9.1 degrees on
    average, with exact rotations by 1.5.

    The paper prints sums over pairs and over neurons; here both are means. With sums the weight of
    the reconstruction falls with the number of neurons, ``beta_sum = beta (n_neurons - 1) / 2``,
    and for hundreds of neurons the temperature collapses at every beta up to 10.

    References
    ----------
    Ustyuzhaninov et al., ICLR 2020, sections 3 and 4, eqs (2) to (5).

    Examples
    --------
    >>> from fastvis.readouts import RotationAligner, make_rotated_readouts
    >>> data = make_rotated_readouts(60, 2, n_features=4, rng=0)
    >>> aligner = RotationAligner(rng=0).fit(data.readouts)
    >>> aligned = aligner.aligned_
    >>> first = aligned[data.labels == 0]
    >>> bool(np.abs(first - first.mean(axis=0)).max() < 0.2)
    True
    """

    def __init__(
        self,
        n_orientations=8,
        objective="distance",
        beta=1.0,
        *,
        rotation="fourier",
        normalize=None,
        n_init=8,
        max_iter=500,
        tol=1e-5,
        optimizer="lbfgs",
        n_partners=None,
        layout="feature",
        progress=False,
        callback=None,
        rng=None,
    ):
        self.n_orientations = n_orientations
        self.objective = objective
        self.beta = beta
        self.rotation = rotation
        self.normalize = normalize
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.optimizer = optimizer
        self.n_partners = n_partners
        self.layout = layout
        self.progress = progress
        self.callback = callback
        self.rng = rng

    def fit(self, X, y=None):
        """Find the angles of readouts.

        Parameters
        ----------
        X : array_like, (n_neurons, n_features, n_orientations) or (n_neurons, n_dims)
            float32 is computed in float32.
        y : None
            Ignored.

        Returns
        -------
        RotationAligner
            This object.
        """
        self._check_parameters()
        readouts = self._readouts(X)
        check_comparable(readouts, "X")
        rng = check_rng(self.rng)
        groups = None
        if self.n_partners is not None:
            groups = random_groups(len(readouts), self.n_partners, rng)
        # in units of the readouts: neither squares nor the optimizer depend on them
        unit = float(np.abs(readouts).max()) or 1.0
        z = spectrum.to_spectrum(readouts / readouts.dtype.type(unit))
        loss = AlignmentLoss(z, self.n_orientations, objective=self.objective, groups=groups)
        start = energy_angles(z, self.n_orientations, self.n_init, rng)
        scale = unit**2 if self.objective == "energy" else unit
        options = {"optimizer": self.optimizer, "max_iter": self.max_iter, "tol": self.tol}
        with reported(self.progress, self.callback, scale) as callback:
            outcome = FITS[self.rotation](loss, start, self.beta, callback=callback, **options)
        self._keep(outcome, X, readouts, z, unit, scale)
        if self.temperature_ < COLLAPSED:
            warnings.warn(
                f"the temperature collapsed to {self.temperature_:.2g}: von Mises rotation is "
                "little more than a mean over orientations. Raise beta.",
                stacklevel=2,
            )
        if outcome.path is not None and self.temperature_ <= LEAST_TEMPERATURE:
            warnings.warn(
                f"no beta gave a temperature above {LEAST_TEMPERATURE:g}; took the largest, "
                f"{self.temperature_:.2g}. Are the readouts the same at all orientations?",
                stacklevel=2,
            )
        return self

    def fit_transform(self, X, y=None):
        """Fit, and return the aligned readouts, in the shape of X."""
        return self.fit(X).aligned_

    def transform(self, X, rotation=None):
        """Align other neurons to the population that was fitted.

        Each is turned to the angle of the smallest mean distance to the aligned neurons (for more
        than 4,096 of them, to so many evenly picked), or to their mean for ``objective="energy"``.

        Parameters
        ----------
        X : array_like, (n, n_features, n_orientations) or (n, n_dims)
        rotation : {"fourier", "von_mises", "cyclic"}, optional
            That of the fit by default.

        Returns
        -------
        ndarray, of X's shape and dtype
        """
        rotation = check_choice(rotation or self.rotation, "rotation", ROTATIONS)
        readouts = self._readouts(X)
        angles = self._find_angles(readouts)
        return like_input(self._turn(readouts, angles, rotation), X, self.layout)

    def find_angles(self, X):
        """The angles by which `transform` turns other neurons, (n,), as `angles_`."""
        return self._find_angles(self._readouts(X))

    def noise_check(self, noise, labels=None):
        """Compare distances after alignment with what noise alone leaves.

        Parameters
        ----------
        noise : float
            Standard deviation of the noise of each number that was fitted.
        labels : array_like of int, (n_neurons,), optional
            Types of the neurons; all of one type by default.

        Returns
        -------
        NoiseCheck
            For each type the mean distance, the expected one, and whether it lies below: then noise
            was aligned. The expected one is that of noise after the same rotation, which shrinks
            it: at T = 5 to 0.7 of its size.

        References
        ----------
        Ustyuzhaninov et al., ICLR 2020, section 5.1, Fig. 4B.
        """
        check_is_fitted(self)
        noise = check_float(noise, "noise", minimum=0, strict=True)
        if self.normalize is not None:
            raise ValueError(
                "normalize must be None for noise_check: rows of length 1 rescale the noise."
            )
        aligned = check_readouts(self.aligned_, self.n_orientations, self.layout)
        labels = np.zeros(len(aligned), int) if labels is None else labels
        labels = check_labels(labels, len(aligned))
        return within_types(aligned, labels, self._gains(self.angles_), noise)

    def save(self, path):
        """Write parameters and results to an npz file, named exactly ``path``.

        Left out are the callback, progress, and an ``rng`` that is a `numpy.random.Generator`. A
        failed write leaves an older file as it was.

        Parameters
        ----------
        path : str or path-like
        """
        check_is_fitted(self)
        files.write(self, path)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        RotationAligner

        Raises
        ------
        FileNotFoundError
            No such file.
        ValueError
            The file is truncated, damaged, or something else.
        """
        return files.read(cls, path)

    # After the fit

    def _keep(self, outcome, X, readouts, z, unit, scale):
        """Make the outcome this object's, in the readouts' units."""
        self.temperature_, self.beta_ = outcome.temperature, outcome.beta
        picked = np.linspace(0, len(z) - 1, min(len(z), N_DIAGNOSED)).round().astype(int)
        distances = AlignmentLoss(z[picked], self.n_orientations)
        angles = outcome.angles[picked]
        self.alignment_losses_ = {
            "fourier": unit * distances.exact(angles)[0],
            "von_mises": unit * distances.relaxed(angles, self.temperature_),
            "cyclic": unit * distances.hard(angles),
        }
        self.angles_ = self._in_gauge(readouts, outcome.angles)
        self.aligned_ = like_input(self._turn(readouts, self.angles_), X, self.layout)
        self.loss_, self.loss_curve_ = scale * outcome.fit.loss, scale * outcome.fit.curve
        self.stopped_by_ = outcome.stopped_by
        if hasattr(self, "path_"):
            del self.path_
        if outcome.path is not None:
            self.path_ = outcome.path.scaled(scale)

    def _in_gauge(self, readouts, angles):
        """Angles in [0, 2 pi), after a common shift by whole bins, which changes no distance."""
        energy = np.square(self._turn(readouts, angles), dtype=np.float64).sum(axis=(0, 1))
        step = 2 * np.pi / self.n_orientations
        angles = (angles + step * energy.argmax()) % (2 * np.pi)
        angles[angles >= 2 * np.pi] = 0  # a tiny negative one, rounded
        untuned = np.ptp(readouts, axis=2).max(axis=1) == 0
        return np.where(untuned, 0.0, angles)

    def _gains(self, angles, rotation=None):
        rotation = rotation or self.rotation
        return gains_of(rotation, angles, self.n_orientations, self.temperature_)

    def _turn(self, readouts, angles, rotation=None):
        return turned(readouts, self._gains(angles, rotation))

    def _find_angles(self, readouts):
        check_is_fitted(self)
        aligned = check_readouts(self.aligned_, self.n_orientations, self.layout)
        if readouts.shape[1] != aligned.shape[1]:
            raise ValueError(
                f"X must have the {aligned.shape[1]} feature(s) of the fitted population; "
                f"got {readouts.shape[1]}."
            )
        unit = float(max(np.abs(readouts).max(), np.abs(aligned).max())) or 1.0
        z, population = (
            spectrum.to_spectrum(r.astype(np.float64) / unit) for r in (readouts, aligned)
        )
        if self.rotation == "fourier" and self.n_orientations > 2:
            z[:, 0].imag = population[:, 0].imag = 0  # as in the fit
        return angles_among(
            population,
            lambda angles: spectrum.turn(z, self._gains(angles)),
            self.n_orientations,
            len(z),
            self.objective,
            whole_bins=self.rotation == "fourier" and self.n_orientations == 2,
        )

    # Arguments

    def _readouts(self, X):
        readouts = check_readouts(X, self.n_orientations, self.layout, name="X")
        if self.normalize is None:
            return readouts
        largest = np.abs(readouts).max(axis=(1, 2), keepdims=True)
        readouts = readouts / np.where(largest > 0, largest, 1)  # so that squares stay in range
        length = np.sqrt(np.square(readouts).sum(axis=(1, 2), keepdims=True))
        return readouts / np.where(length > 0, length, 1)

    def _check_parameters(self):
        check_int(self.n_orientations, "n_orientations", minimum=1)
        check_choice(self.objective, "objective", OBJECTIVES)
        check_choice(self.rotation, "rotation", tuple(FITS))
        if self.normalize not in (None, "l2"):
            raise ValueError(f"normalize must be None or 'l2'; got {self.normalize!r}.")
        if not (isinstance(self.beta, str) and self.beta == "path"):
            check_float(self.beta, "beta", minimum=0)
        check_int(self.n_init, "n_init", minimum=1)
        check_int(self.max_iter, "max_iter", minimum=0)
        check_float(self.tol, "tol", minimum=0)
        check_choice(self.optimizer, "optimizer", OPTIMIZERS)
        if self.n_partners is not None:
            check_int(self.n_partners, "n_partners", minimum=1)
            if self.objective == "energy":
                raise ValueError(
                    "n_partners must be None for objective='energy', which compares with a mean."
                )
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable or None; got {self.callback!r}.")
