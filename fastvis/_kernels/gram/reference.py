"""The definition of the Gram model, in plain NumPy (ICLR 2017, eqs 1 and 5).

x: image (H, W, C); w: a list of filters (n_s, f_s, f_s, C); F: feature maps (N, M), M = H W.
"""

import numpy as np

PAD_MODE = {"zero": "constant", "periodic": "wrap", "reflect": "reflect"}

ACTIVATION = {
    "relu": lambda u: np.maximum(u, 0),
    "sigmoid": lambda u: 1 / (1 + np.exp(-u)),
    "linear": lambda u: u,
}
# the derivative as a function of the activation's own value
SLOPE = {
    "relu": lambda f: (f > 0).astype(f.dtype),
    "sigmoid": lambda f: f * (1 - f),
    "linear": np.ones_like,
}


def features(x, w, nonlinearity, padding):
    """F_nm = phi(sum_{a,b,c} w_n[a, b, c] x[i + a - p, j + b - p, c]), m = (i, j)."""
    maps = []
    for filters in w:
        f = filters.shape[1]
        p = f // 2
        padded = np.pad(x, ((p, p), (p, p), (0, 0)), mode=PAD_MODE[padding])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (f, f), axis=(0, 1))
        maps.append(np.einsum("nabc,ijcab->nij", filters, windows, optimize=True))
    u = np.concatenate(maps).reshape(-1, x.shape[0] * x.shape[1])
    return ACTIVATION[nonlinearity](u)


def gram(x, w, nonlinearity, padding):
    """G = F F' / M  (1)."""
    F = features(x, w, nonlinearity, padding)
    return F @ F.T / F.shape[1]


def gram_vjp(x, w, nonlinearity, padding, d_gram):
    """The gradient of sum_ij d_gram_ij G_ij(x) by the image."""
    F = features(x, w, nonlinearity, padding)
    dF = (d_gram + d_gram.T) @ F / F.shape[1] * SLOPE[nonlinearity](F)
    dF = dF.reshape(-1, *x.shape[:2])
    dx = np.zeros_like(x)
    first = 0
    for filters in w:
        n, f = filters.shape[:2]
        p = f // 2
        rows, cols = (np.pad(np.arange(size), p, mode=PAD_MODE[padding]) for size in x.shape[:2])
        inside_r, inside_c = (
            np.pad(np.ones(size), p, mode=PAD_MODE[padding]) for size in x.shape[:2]
        )
        d_padded = np.zeros((len(rows), len(cols), x.shape[2]), x.dtype)
        for a in range(f):
            for b in range(f):
                d_padded[a : a + x.shape[0], b : b + x.shape[1]] += np.einsum(
                    "nij,nc->ijc", dF[first : first + n], filters[:, a, b]
                )
        d_padded *= np.multiply.outer(inside_r, inside_c)[..., None]
        np.add.at(dx, np.ix_(rows, cols), d_padded)
        first += n
    return dx


def loss(x, w, nonlinearity, padding, target):
    """E = sum_ij (A_ij - G_ij)^2 / sum_ij A_ij^2  (5), A = target."""
    return np.sum((target - gram(x, w, nonlinearity, padding)) ** 2) / np.sum(target**2)


def loss_and_grad(x, w, nonlinearity, padding, target):
    """E (5) and its gradient by the image."""
    G = gram(x, w, nonlinearity, padding)
    norm = np.sum(target**2)
    d_gram = 2 * (G - target) / norm
    return np.sum((G - target) ** 2) / norm, gram_vjp(x, w, nonlinearity, padding, d_gram)
