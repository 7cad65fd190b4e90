"""Padding of an image for correlations that are circular along its rows, and its adjoint."""

import numpy as np
import scipy.fft

from .reference import PAD_MODE


def pad_index(n, pad, mode):
    """Where padded element i comes from: ``(n + 2 pad,)`` indices, -1 for a zero."""
    if mode == "zero":
        return np.pad(np.arange(n), pad, constant_values=-1)
    return np.pad(np.arange(n), pad, mode=PAD_MODE[mode])


def circular_index(n, pad, mode):
    """Where element i of a row comes from whose two ends meet; element 0 comes from element 0.

    What lies left of element 0 stands at the row's end, where a circular correlation looks for
    it; zeros serve both sides at once. The length is a fast one for an FFT, or n if periodic.
    """
    if mode == "periodic":
        return np.arange(n)
    source = pad_index(n, pad, mode)
    length = scipy.fft.next_fast_len(n + (pad if mode == "zero" else 2 * pad), real=True)
    index = np.full(length, -1)
    index[: n + pad] = source[pad:]
    if mode == "reflect" and pad:
        index[-pad:] = source[:pad]
    return index


class Padding:
    """Pads images (H, W, C) to (len(columns), len(rows), C): transposed, columns circular."""

    def __init__(self, shape, pad, mode):
        self.shape, self.pad = shape, pad
        self.rows = pad_index(shape[0], pad, mode)
        self.columns = circular_index(shape[1], pad, mode)

    def apply(self, image):
        padded = image[self.rows][:, self.columns]
        padded[self.rows < 0] = 0
        padded[:, self.columns < 0] = 0
        return padded.transpose(1, 0, 2)

    def adjoint(self, d_padded):
        d_image = _fold(d_padded, self.columns, 0, self.shape[1]).transpose(1, 0, 2)
        return np.ascontiguousarray(_fold(d_image, self.rows, self.pad, self.shape[0]))


def _fold(d_padded, index, start, n):
    """Sums along the first axis what came from the same place; [start, start + n) is the image."""
    d = d_padded[start : start + n].copy()
    border = index >= 0
    border[start : start + n] = False
    np.add.at(d, index[border], d_padded[border])
    return d
