"""Monotone warps of a range, and the evidence of a template seen through them, with derivatives.

A warp has the ends of the range fixed, and a slope that is the exponential of a Gaussian process w:

    g(x) = a + (b - a) int_a^x exp w / int_a^b exp w

w is constant in each of K cells, so that increments are a softmax: no draw can fall, anywhere.
"""

import numpy as np
from scipy.special import softmax

from .covariances import SquaredExponential
from .triangles import below, factor, factor_vjp, solve_lower

CELLS = 20  # in a lengthscale of log-slopes
TAIL = 1e-5  # share of the variance of log-slopes that is left out
JITTER = 1e-6  # of the covariance of inducing points, in units of its mean diagonal


class Warps:
    """Of J sequences, from coefficients c (..., J - 1, R) whose prior is N(0, I).

    Log-slopes are ``w = scale * contrasts @ c @ basis.T`` (..., J, K): their sum over sequences is
    zero, and ``basis`` has the leading eigenfunctions of their covariance. Their mean over the
    range, which a warp does not depend on, is left out.
    """

    def __init__(self, x, bounds, lengthscale):
        self.bounds, self.span = bounds, bounds[1] - bounds[0]
        n_cells = int(np.ceil(CELLS * max(1, self.span / lengthscale)))
        self.knots = np.linspace(*bounds, n_cells + 1)
        self.ramps = [self._ramps(times) for times in x]
        centers = (self.knots[1:] + self.knots[:-1]) / 2
        k = SquaredExponential(1.0, lengthscale)(centers)
        k = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
        values, vectors = np.linalg.eigh(k)
        values, vectors = values[::-1], vectors[:, ::-1]
        rank = 1 + np.count_nonzero(np.cumsum(values) < (1 - TAIL) * values.sum())
        self.basis = vectors[:, :rank] * np.sqrt(values[:rank])
        self.contrasts = _contrasts(len(x))
        self.shape = len(x) - 1, int(rank)

    def _ramps(self, times):
        """(N, K): the part of each cell that lies before a time."""
        at = (np.asarray(times) - self.bounds[0]) / self.span * (len(self.knots) - 1)
        return np.clip(at[:, None] - np.arange(len(self.knots) - 1), 0, 1)

    def log_slopes(self, c, scale):
        """w, (..., J, K)."""
        return scale * (self.contrasts @ c) @ self.basis.T

    def increments(self, c, scale):
        """Shares of cells in the range, (..., J, K), positive and of sum 1."""
        return softmax(self.log_slopes(c, scale), axis=-1)

    def at_knots(self, p):
        """Values (..., J, K + 1) of warps at knots; the ends are those of the range, exactly."""
        inner = self.bounds[0] + self.span * np.cumsum(p[..., :-1], axis=-1)
        ends = [np.full((*p.shape[:-1], 1), bound) for bound in self.bounds]
        return np.concatenate([ends[0], inner, ends[1]], axis=-1)

    def at(self, values, grid):
        """Warps with values (n, J, K + 1) at knots on a grid (G,), (n, J, G)."""
        flat = values.reshape(-1, values.shape[-1])
        out = np.stack([np.interp(grid, self.knots, row) for row in flat])
        return out.reshape(*values.shape[:-1], len(grid))

    def at_times(self, p):
        """Warped times of all sequences, one behind the other, (S, N), of increments (S, J, K)."""
        each = [p[:, j] @ ramps.T for j, ramps in enumerate(self.ramps)]
        return self.bounds[0] + self.span * np.concatenate(each, axis=1)

    def vjp(self, p, scale, d_t):
        """From a gradient by `at_times` to that by c, (S, J - 1, R)."""
        ends = np.cumsum([len(ramps) for ramps in self.ramps])
        parts = zip(np.split(d_t, ends[:-1], axis=1), self.ramps)
        d_p = self.span * np.stack([d @ ramps for d, ramps in parts], axis=1)
        d_w = p * (d_p - (d_p * p).sum(-1, keepdims=True))
        return scale * self.contrasts.T @ (d_w @ self.basis)

    def information(self, p, scale, slopes, a, lower, noise):
        """Gauss-Newton curvature by c, (n, n), averaged over samples.

        About a template that is linear around each point, with f itself integrated out, data are
        N(f' dt, Sigma); its precision by warped times is diag(f') Sigma^-1 diag(f'), which has no
        negative eigenvalue. Sigma^-1 = (I - A^T B^-1 A) / noise, as in `Evidence`.
        """
        n_samples, n_sequences, _ = p.shape
        rank = self.shape[1]
        blocks = np.zeros((n_sequences, rank, n_sequences, rank))
        low, first = [], 0
        for j, ramps in enumerate(self.ramps):
            part = slice(first, first + len(ramps))
            first += len(ramps)
            q = p[:, j, :, None]
            by_w = q * (self.basis - (q * self.basis).sum(1, keepdims=True))
            by_v = scale * self.span * ramps @ by_w  # (S, N_j, R)
            jacobian = np.swapaxes(slopes[:, part], 1, 2)[..., None] * by_v[:, None]
            flat = jacobian.reshape(-1, rank)
            blocks[j, :, j] = flat.T @ flat
            low.append(a[:, None, :, part] @ jacobian)
        low = np.concatenate(low, axis=-1)  # (S, D, M, J R)
        total = blocks.reshape(n_sequences * rank, -1)
        for s in range(n_samples):
            root = solve_lower(lower[s], np.concatenate(list(low[s]), axis=1))
            root = root.reshape(len(root), low.shape[1], -1).reshape(-1, low.shape[-1])
            total -= root.T @ root
        total = total.reshape(n_sequences, rank, n_sequences, rank) / (noise * n_samples)
        half = np.tensordot(self.contrasts, total, (0, 0))  # (J - 1, R, J, R)
        n = np.prod(self.shape)
        return np.tensordot(half, self.contrasts, (2, 0)).swapaxes(2, 3).reshape(n, n)


class Evidence:
    """Of observations y (N, D) of a Gaussian process at times, through inducing points z (M,).

    The process is integrated out in closed form, for each sample of times:

        log N(y | 0, Q + noise I) - tr(k - Q) / (2 noise),     Q = k(t, z) k(z, z)^-1 k(z, t)

    Titsias, "Variational learning of inducing variables in sparse Gaussian processes", 2009, (9).
    """

    def __init__(self, kernel, noise, z, y):
        self.kernel, self.noise, self.z, self.y = kernel, noise, z, y
        k = kernel(z)
        k += JITTER * np.diag(k).mean() * np.eye(len(z))
        self.lz = factor(k, f"the covariance of the inducing points, with jitter {JITTER:g},")

    def solve(self, t):
        """A (S, M, N), the factors of B = I + A A^T, and B^-1 A y (S, M, D), of times (S, N)."""
        sigma = np.sqrt(self.noise)
        k = self.kernel(t[..., None], self.z[:, None])
        a = np.stack([solve_lower(self.lz, x.T) for x in k]) / sigma
        lower = np.linalg.cholesky(np.eye(len(self.z)) + a @ np.swapaxes(a, 1, 2))
        right = a @ (self.y / sigma)
        beta = [solve_lower(l, solve_lower(l, b), transposed=True) for l, b in zip(lower, right)]
        return a, lower, np.stack(beta)

    def values(self, t, solution):
        """Of each sample, (S,)."""
        a, lower, beta = solution
        n, n_outputs = self.y.shape
        y = self.y / np.sqrt(self.noise)
        fit = ((a @ y) * beta).sum((1, 2)) - (y**2).sum()
        logs = np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(1)
        rest = self.kernel.diag(t[..., None]).sum(1) / self.noise - (a**2).sum((1, 2))
        constant = n * n_outputs * np.log(2 * np.pi * self.noise)
        return (fit - constant - n_outputs * rest) / 2 - n_outputs * logs

    def vjp(self, t, solution):
        """Gradients of the mean over samples: by t, kernel.theta, and log noise."""
        a, lower, beta = solution
        n_samples, n_outputs = len(t), self.y.shape[1]
        sigma = np.sqrt(self.noise)
        y = self.y / sigma
        fitted = np.swapaxes(a, 1, 2) @ beta
        inverse = [solve_lower(l, solve_lower(l, x), transposed=True) for l, x in zip(lower, a)]
        d_a = beta @ np.swapaxes(y - fitted, 1, 2) + n_outputs * (a - np.stack(inverse))
        d_a /= n_samples
        d_k = np.stack([solve_lower(self.lz, d, transposed=True) for d in d_a])
        d_lz = -below(np.einsum("smn,sln->ml", d_k, a))
        d_kzz = factor_vjp(self.lz, d_lz)
        at = np.arange(len(d_kzz))
        d_kzz[at, at] += JITTER * np.diag(d_kzz).mean()
        by_t, _, theta = self.kernel.gradients(
            t[..., None], self.z[:, None], np.swapaxes(d_k, 1, 2) / sigma
        )
        theta = theta + self.kernel.gradients(self.z, None, d_kzz)[2]
        weight = -n_outputs / (2 * self.noise * n_samples)
        by_t_too, more = self.kernel.diag_gradients(t[..., None], np.full(t.shape, weight))
        by_sigma = (y**2).sum() - y.size - (y * fitted).sum() / n_samples - (d_a * a).sum()
        by_sigma -= 2 * weight * self.kernel.diag(t[..., None]).sum()
        return (by_t + by_t_too)[..., 0], theta + more, by_sigma / 2

    def slopes(self, t, beta, step):
        """Derivatives of the template's mean at times, (S, N, D), by central differences."""
        weights = np.stack([solve_lower(self.lz, b, transposed=True) for b in beta])
        ahead, behind = (self.kernel(x[..., None], self.z[:, None]) for x in (t + step, t - step))
        return (ahead - behind) @ weights / (2 * step)

    def moments(self, grid, solution):
        """Mean (S, G, D) and variance (S, G) of the template at points (G,), by sample."""
        _, lower, beta = solution
        basis = solve_lower(self.lz, self.kernel(self.z, grid))
        roots = [solve_lower(l, basis) for l in lower]
        prior = self.kernel.diag(grid) - (basis**2).sum(0)
        variance = np.maximum(prior, 0) + np.stack([(root**2).sum(0) for root in roots])
        return basis.T @ beta, variance


def _contrasts(n):
    """Orthonormal columns (n, n - 1), each of sum zero (Helmert)."""
    out = np.zeros((n, n - 1))
    for i in range(1, n):
        out[:i, i - 1], out[i, i - 1] = 1, -i
        out[:, i - 1] /= np.sqrt(i * (i + 1))
    return out
