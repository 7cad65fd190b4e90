"""Families of stimuli, given by parameters: one stimulus for each neuron."""

from dataclasses import dataclass, fields, replace

import numpy as np

from .._validation import check_array
from .stimuli import difference_of_gaussians, gabor


@dataclass(frozen=True, eq=False)
class _Family:
    """Parameters (n,) of n stimuli, ``center`` (n, 2); numbers stand for all of them."""

    center: np.ndarray

    def __post_init__(self):
        center = check_array(self.center, "center", ndim=2, axes="(n, 2)").astype(np.float64)
        if center.shape[1] != 2:
            raise ValueError(f"center must be (n, 2), rows and columns; got shape {center.shape}.")
        object.__setattr__(self, "center", center)
        for name in self.names():
            value = check_array(getattr(self, name), name).astype(np.float64)
            value = value.reshape(np.shape(getattr(self, name)))
            if value.ndim > 1 or (value.ndim == 1 and len(value) != len(center)):
                raise ValueError(f"{name} must be ({len(center)},); got shape {value.shape}.")
            object.__setattr__(self, name, np.broadcast_to(value, len(center)).copy())

    @classmethod
    def names(cls):
        """Of the parameters but the center."""
        return [field.name for field in fields(cls) if field.name != "center"]

    def __len__(self):
        return len(self.center)

    def __getitem__(self, rows):
        """The stimuli of these rows: a slice, or an array of indices or of bools."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def images(self, size, **changed):
        """Draw the stimuli.

        Parameters
        ----------
        size : int or tuple (H, W)
        **changed : array_like
            Instead of parameters: ``(..., n)``, or ``(..., n, 2)`` for the center.

        Returns
        -------
        ndarray, (..., n, H, W), float32
        """
        parameters = {f.name: getattr(self, f.name) for f in fields(self)} | changed
        return self.draw(size, **parameters)


@dataclass(frozen=True, eq=False)
class Gabors(_Family):
    """One Gabor for each neuron; parameters as of `gabor`.

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.twin import Gabors
    >>> own = Gabors(np.full((5, 2), 8.0), sigma=2.0, frequency=0.15, orientation=np.arange(5))
    >>> own.images(17).shape
    (5, 17, 17)
    >>> own[:2].images(17, orientation=own.orientation[:2] + np.arange(4)[:, None]).shape
    (4, 2, 17, 17)
    """

    sigma: np.ndarray
    frequency: np.ndarray
    orientation: np.ndarray = 0.0
    phase: np.ndarray = 0.0
    contrast: np.ndarray = 1.0
    draw = staticmethod(gabor)


@dataclass(frozen=True, eq=False)
class DifferencesOfGaussians(_Family):
    """One center-surround stimulus for each neuron; parameters as of `difference_of_gaussians`."""

    sigma_center: np.ndarray
    sigma_surround: np.ndarray
    contrast: np.ndarray = 1.0
    surround: np.ndarray = 0.5
    draw = staticmethod(difference_of_gaussians)
