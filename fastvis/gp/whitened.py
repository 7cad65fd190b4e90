"""Gaussian posteriors of whitened inducing values of all layers; the prior is N(0, I).

The values of layer l are the vector v_l of its outputs one behind the other, of size
B_l = outputs x inducing points; v_l ~ N(n_l, S_ll), cov(v_l, v_k) = S_lk. A row is one output.

    Factorized    S_ll = T T^T for each row; nothing is coupled
    Chain         v_l = n_l + H_l (v_{l-1} - n_{l-1}) + T_l e_l: S^-1 is block-tridiagonal
    Joint         S = T T^T for all layers at once

Each has the same functions: ``blocks`` gives what paths need (lower factors of S_rr, and S_rs of
the pairs of rows that are coupled), ``blocks_vjp`` goes back from them, ``kl`` is the divergence
from the prior without its means, ``draw`` makes coupled draws of standard normals; ``*_vjp`` add to
the gradients ``out``. ``natural_step`` moves parameters, the means (l, "n") too, along the natural
gradient: means by the new covariance times their gradient.
"""

import numpy as np

from .triangles import (
    below,
    factor_of_sum,
    factor_vjp,
    log_diagonal,
    natural_step,
    raw_triangle,
    solve_lower,
    triangle,
    triangle_vjp,
)


class Factorized:
    """Doubly stochastic variational inference: UAI 2020, (4)."""

    def __init__(self, sizes):
        self.sizes = sizes  # (outputs, inducing points) of each layer
        self.pairs = ()

    def shapes(self):
        return {(l, "factor"): (t, m, m) for l, (t, m) in enumerate(self.sizes)}

    def start(self, parameters, scales):
        for l, scale in enumerate(scales):
            parameters[l, "factor"][:] = raw_triangle(scale * np.eye(self.sizes[l][1]))

    def blocks(self, parameters):
        factors = [triangle(parameters[l, "factor"]) for l in range(len(self.sizes))]
        return factors, [], factors

    def blocks_vjp(self, factors, d_factors, d_pairs, out):
        for l, (lower, d_lower) in enumerate(zip(factors, d_factors)):
            out[l, "factor"] += triangle_vjp(lower, d_lower)

    def kl(self, parameters, factors):
        n = sum(t * m for t, m in self.sizes)
        logs = sum(log_diagonal(parameters[l, "factor"]) for l in range(len(self.sizes)))
        return sum((f**2).sum() for f in factors) / 2 - n / 2 - logs

    def kl_vjp(self, factors, scale, out):
        for l, lower in enumerate(factors):
            d_raw = triangle_vjp(lower, scale * lower)
            at = np.arange(lower.shape[-1])
            d_raw[:, at, at] -= scale
            out[l, "factor"] += d_raw

    def draw(self, factors, noise):
        """Deviations of v_l from n_l, (S, T, M), of standard normals of that shape."""
        return [np.einsum("tij,stj->sti", lower, e) for lower, e in zip(factors, noise)]

    def draw_vjp(self, factors, noise, d_draws, out):
        for l, (lower, e, d) in enumerate(zip(factors, noise, d_draws)):
            out[l, "factor"] += triangle_vjp(lower, np.einsum("sti,stj->tij", d, e))

    def natural_step(self, parameters, gradient, rate):
        for l, (t, _) in enumerate(self.sizes):
            for d in range(t):
                metric = natural_step(parameters[l, "factor"][d], gradient[l, "factor"][d], rate)
                parameters[l, "n"][d] += metric @ gradient[l, "n"][d]

    def covariance(self, factors):
        """S_lk by (l, k), k <= l."""
        blocks = {}
        for l, (t, m) in enumerate(self.sizes):
            block = np.zeros((t, m, t, m))
            for d in range(t):
                block[d, :, d] = factors[l][d] @ factors[l][d].T
            blocks[l, l] = block.reshape(t * m, t * m)
            for k in range(l):
                blocks[l, k] = np.zeros((t * m, self.sizes[k][0] * self.sizes[k][1]))
        return blocks


class Chain:
    """Coupled layer by layer: UAI 2020, (14), for any number of layers."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.pairs = _all_pairs(sizes)

    def shapes(self):
        b = [t * m for t, m in self.sizes]
        shapes = {(l, "factor"): (n, n) for l, n in enumerate(b)}
        shapes.update({(l, "gain"): (b[l], b[l - 1]) for l in range(1, len(b))})
        return shapes

    def start(self, parameters, scales):
        for l, scale in enumerate(scales):
            parameters[l, "factor"][:] = raw_triangle(scale * np.eye(np.prod(self.sizes[l])))

    def blocks(self, parameters):
        t = [triangle(parameters[l, "factor"]) for l in range(len(self.sizes))]
        h = [None, *(parameters[l, "gain"] for l in range(1, len(t)))]
        s, lower = {}, []
        for l in range(len(t)):
            lower.append(factor_of_sum(h[l] @ lower[l - 1], t[l]) if l else t[l])
            s[l, l] = lower[l] @ lower[l].T
            for k in range(l):
                s[l, k] = h[l] @ (s[l - 1, k])
        return *_rows(self.sizes, self.pairs, s, lower), (t, h, s, lower)

    def blocks_vjp(self, cache, d_factors, d_pairs, out):
        t, h, s, lower = cache
        d_s = _rows_vjp(self.sizes, self.pairs, s, lower, d_factors, d_pairs)
        self._covariance_vjp(t, h, s, d_s, out)

    def _covariance_vjp(self, t, h, s, d_s, out):
        for l in range(len(t) - 1, -1, -1):
            both = d_s[l, l] + d_s[l, l].T
            out[l, "factor"] += triangle_vjp(t[l], both @ t[l])
            if l == 0:
                break
            d_h = both @ h[l] @ s[l - 1, l - 1]
            d_s[l - 1, l - 1] = d_s[l - 1, l - 1] + h[l].T @ d_s[l, l] @ h[l]
            for k in range(l):
                d_h += d_s[l, k] @ s[l - 1, k].T
                d_s[l - 1, k] = d_s[l - 1, k] + h[l].T @ d_s[l, k]
            out[l, "gain"] += d_h

    def kl(self, parameters, cache):
        _, _, _, lower = cache
        n = sum(len(f) for f in lower)
        logs = sum(log_diagonal(parameters[l, "factor"]) for l in range(len(lower)))
        return sum((f**2).sum() for f in lower) / 2 - n / 2 - logs

    def kl_vjp(self, cache, scale, out):
        t, h, s, lower = cache
        d_s = _zeros(self.sizes)
        for l in range(len(t)):
            d_s[l, l] = scale / 2 * np.eye(len(t[l]))
            at = np.arange(len(t[l]))
            out[l, "factor"][at, at] -= scale
        self._covariance_vjp(t, h, s, d_s, out)

    def draw(self, cache, noise):
        t, h = cache[:2]
        draws = []
        for l, e in enumerate(noise):
            v = e.reshape(len(e), -1) @ t[l].T
            if l:
                v += draws[-1] @ h[l].T
            draws.append(v)
        return [v.reshape(e.shape) for v, e in zip(draws, noise)]

    def draw_vjp(self, cache, noise, d_draws, out):
        t, h = cache[:2]
        draws = [v.reshape(len(v), -1) for v in self.draw(cache, noise)]
        d_v = d_draws[-1].reshape(len(noise[-1]), -1)
        for l in range(len(t) - 1, -1, -1):
            out[l, "factor"] += triangle_vjp(t[l], d_v.T @ noise[l].reshape(len(d_v), -1))
            if l > 0:
                out[l, "gain"] += d_v.T @ draws[l - 1]
                d_v = d_draws[l - 1].reshape(len(d_v), -1) + d_v @ h[l]

    def natural_step(self, parameters, gradient, rate):
        """In the means b_l of v_l given v_{l-1}, dn_l = db_l + H_l dn_{l-1}, and in H_l, whose
        metric is that of a regression on v_{l-1} ~ N(n, S)."""
        lower = self.blocks(parameters)[2][3]
        last = len(self.sizes) - 1
        d_b = [gradient[l, "n"].ravel() for l in range(last + 1)]
        for l in range(last, 0, -1):
            d_b[l - 1] = d_b[l - 1] + parameters[l, "gain"].T @ d_b[l]
        moved = 0.0
        for l in range(last + 1):
            metric = natural_step(parameters[l, "factor"], gradient[l, "factor"], rate)
            step = metric @ d_b[l]
            if l > 0:
                step = step + parameters[l, "gain"] @ moved
                parameters[l, "gain"] += _gain_step(
                    triangle(parameters[l, "factor"]), metric, gradient[l, "gain"], lower[l - 1]
                )
            parameters[l, "n"] += step.reshape(parameters[l, "n"].shape)
            moved = step

    def covariance(self, cache):
        return cache[2]


def _gain_step(t, metric, d_gain, before):
    """Return the natural step of H in v_l = H v_{l-1} + T e, v_{l-1} having the factor ``before``.

    No more than that which moves v_l, in units of T, by half as much as v_{l-1} in its own.
    """
    step = solve_lower(t, metric @ solve_lower(before, d_gain.T).T)
    step *= min(1.0, 0.5 / max(np.linalg.norm(step, 2), 1e-300))
    return t @ solve_lower(before, step.T, transposed=True).T


class Joint:
    """One Gaussian for all layers: UAI 2020, (12)."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.pairs = _all_pairs(sizes)
        ends = np.cumsum([t * m for t, m in sizes])
        self._slices = [slice(a, b) for a, b in zip([0, *ends], ends)]

    def shapes(self):
        n = self._slices[-1].stop
        return {"factor": (n, n)}

    def start(self, parameters, scales):
        diagonal = np.repeat(scales, [t * m for t, m in self.sizes])
        parameters["factor"][:] = raw_triangle(np.diag(diagonal))

    def blocks(self, parameters):
        t = triangle(parameters["factor"])
        s, lower = {}, []
        for l, rows in enumerate(self._slices):
            lower.append(factor_of_sum(t[rows, : rows.stop]))
            for k, columns in enumerate(self._slices[: l + 1]):
                s[l, k] = t[rows, : columns.stop] @ t[columns, : columns.stop].T
        return *_rows(self.sizes, self.pairs, s, lower), (t, s, lower)

    def blocks_vjp(self, cache, d_factors, d_pairs, out):
        t, s, lower = cache
        d_s = _rows_vjp(self.sizes, self.pairs, s, lower, d_factors, d_pairs)
        dense = np.zeros_like(t)
        for (l, k), block in d_s.items():
            dense[self._slices[l], self._slices[k]] = block
        out["factor"] += triangle_vjp(t, (dense + dense.T) @ t)

    def kl(self, parameters, cache):
        t = cache[0]
        return (t**2).sum() / 2 - len(t) / 2 - log_diagonal(parameters["factor"])

    def kl_vjp(self, cache, scale, out):
        t = cache[0]
        out["factor"] += triangle_vjp(t, scale * t)
        at = np.arange(len(t))
        out["factor"][at, at] -= scale

    def draw(self, cache, noise):
        flat = np.concatenate([e.reshape(len(e), -1) for e in noise], axis=1)
        v = flat @ cache[0].T
        return [v[:, rows].reshape(e.shape) for rows, e in zip(self._slices, noise)]

    def draw_vjp(self, cache, noise, d_draws, out):
        e, d = (np.concatenate([x.reshape(len(x), -1) for x in y], 1) for y in (noise, d_draws))
        out["factor"] += triangle_vjp(cache[0], d.T @ e)

    def natural_step(self, parameters, gradient, rate):
        metric = natural_step(parameters["factor"], gradient["factor"], rate)
        layers = range(len(self.sizes))
        step = metric @ np.concatenate([gradient[l, "n"].ravel() for l in layers])
        for l, rows in enumerate(self._slices):
            parameters[l, "n"] += step[rows].reshape(parameters[l, "n"].shape)

    def covariance(self, cache):
        return cache[1]


def _all_pairs(sizes):
    """Rows (r, s), r > s, but those of the last layer, in which a likelihood couples nothing."""
    n_rows = sum(t for t, _ in sizes)
    hidden = n_rows - sizes[-1][0]
    return tuple((r, s) for r in range(n_rows) for s in range(min(r, hidden)))


def _places(sizes):
    """Layer and slice in it of each row."""
    return [(l, slice(d * m, (d + 1) * m)) for l, (t, m) in enumerate(sizes) for d in range(t)]


def _zeros(sizes):
    b = [t * m for t, m in sizes]
    return {(l, k): np.zeros((b[l], b[k])) for l in range(len(b)) for k in range(l + 1)}


def _rows(sizes, pairs, s, lower):
    """Factors (T, M, M) of S_rr of each layer's rows, and S_rs of pairs."""
    places = _places(sizes)
    factors = []
    for l, (t, m) in enumerate(sizes):
        if t == 1:
            factors.append(lower[l][None])
        else:
            rows = lower[l].reshape(t, m, t * m)
            factors.append(np.stack([factor_of_sum(row) for row in rows]))
    blocks = []
    for r, q in pairs:
        (l, rows), (k, columns) = places[r], places[q]
        blocks.append(s[l, k][rows, columns])
    return factors, blocks


def _rows_vjp(sizes, pairs, s, lower, d_factors, d_pairs):
    """From `_rows` back to gradients by S_lk, each as of entries of its own."""
    places = _places(sizes)
    d_s = _zeros(sizes)
    factors, _ = _rows(sizes, (), s, lower)
    for row, (l, rows) in enumerate(places):
        d = row - sum(t for t, _ in sizes[:l])
        d_s[l, l][rows, rows] += factor_vjp(factors[l][d], below(d_factors[l][d]))
    for (r, q), d_block in zip(pairs, d_pairs):
        (l, rows), (k, columns) = places[r], places[q]
        d_s[l, k][rows, columns] += d_block
    return d_s
