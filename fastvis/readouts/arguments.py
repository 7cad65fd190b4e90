"""Readouts as functions take them: three axes, or flat with the number of orientations."""

import numpy as np

from .._validation import check_array, check_choice, check_int

AXES = "(n_neurons, n_features, n_orientations)"
LAYOUTS = ("feature", "orientation")


def check_readouts(readouts, n_orientations=None, layout="feature", name="readouts"):
    """Return readouts as a C-contiguous float array (n_neurons, n_features, n_orientations).

    Parameters
    ----------
    readouts : array_like, (n_neurons, n_features, n_orientations) or (n_neurons, n_dims)
    n_orientations : int, optional
        Needed for flat readouts; readouts of three axes must have as many.
    layout : {"feature", "orientation"}
        Which index runs slowest in a flat row: ``row[f * n_orientations + o]`` or
        ``row[o * n_features + f]``.
    name : str
        Argument name for the error message.

    Examples
    --------
    >>> check_readouts(np.zeros((5, 128)), 8).shape
    (5, 16, 8)
    >>> check_readouts(np.zeros((5, 128)))
    Traceback (most recent call last):
    ValueError: readouts must have 3 dimensions (n_neurons, n_features, n_orientations); got shape
    (5, 128). Pass n_orientations=8 for flat readouts.
    """
    layout = check_choice(layout, "layout", LAYOUTS)
    if n_orientations is None:
        remedy = "Pass n_orientations=8 for flat readouts."
        return check_array(readouts, name, ndim=3, axes=AXES, remedy=remedy)
    n_orientations = check_int(n_orientations, "n_orientations", minimum=1)
    readouts = check_array(
        readouts, name, ndim=(2, 3), axes=f"{AXES} or (n_neurons, n_features * n_orientations)"
    )
    if readouts.ndim == 3:
        if readouts.shape[2] != n_orientations:
            raise ValueError(
                f"{name} must have {n_orientations} orientation(s) on the last axis; got shape "
                f"{readouts.shape}. Move the orientations there, or pass another n_orientations."
            )
        return readouts
    n_neurons, n_dims = readouts.shape
    if n_dims % n_orientations:
        raise ValueError(
            f"{name} must have n_features * {n_orientations} columns; got shape {readouts.shape}, "
            f"and {n_dims} is no multiple of {n_orientations}. Pass another n_orientations."
        )
    if layout == "feature":
        return readouts.reshape(n_neurons, -1, n_orientations)
    by_orientation = readouts.reshape(n_neurons, n_orientations, -1)
    return np.ascontiguousarray(by_orientation.transpose(0, 2, 1))


def like_input(result, readouts, layout="feature"):
    """``result`` (n_neurons, n_features, n_orientations) in the shape of the user's readouts."""
    if np.ndim(readouts) == 3:
        return result
    if layout == "orientation":
        result = result.transpose(0, 2, 1)
    return np.ascontiguousarray(result.reshape(len(result), -1))


def check_labels(labels, n_neurons, name="labels", *, or_none=False):
    """Return labels as an int array ``(n_neurons,)``, all at least 0, or -1 for none if it may be.

    >>> check_labels([0, 1, -1], 3, or_none=True)
    array([ 0,  1, -1])
    >>> check_labels([0, 1, -1], 3)
    Traceback (most recent call last):
    ValueError: labels must be at least 0; got -1. Leave out neurons without a cluster.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers; got dtype {labels.dtype}.")
    if labels.shape != (n_neurons,):
        raise ValueError(
            f"{name} must have one value for each of {n_neurons} neuron(s); "
            f"got shape {labels.shape}."
        )
    if labels.min() < -or_none:
        raise ValueError(
            f"{name} must be at least 0, or -1 for none; got {labels.min()}."
            if or_none
            else f"{name} must be at least 0; got {labels.min()}. Leave out neurons without a "
            "cluster."
        )
    return labels.astype(np.intp)
