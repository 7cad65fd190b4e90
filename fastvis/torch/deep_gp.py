"""A deep GP as the end of a PyTorch model: its ELBO as a differentiable tensor; imports torch."""

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.autograd.function import once_differentiable

from .._random import check_rng
from .._validation import check_int
from ..gp import DeepGP
from ..gp.bounds import evidence_bound
from ._tensors import check_tensor


class DeepGPBound(nn.Module):
    """The ELBO of a `fastvis.gp.DeepGP`, differentiable by inputs and parameters.

    Parameters
    ----------
    model : fastvis.gp.DeepGP
        Fitted; with ``n_steps=0`` only started, at points like those that will come.
    n_data : int
        How many observations there are in all, for batches.

    Attributes
    ----------
    theta : torch.nn.Parameter, (n_parameters,)
        All that the model learns, in float64: what `frozen` holds gets no gradient. ``.float()`` of
        a module rounds it; computations stay in float64.

    Notes
    -----
    Paths run on the CPU, in float64; a CUDA tensor is an error. Train ``theta`` by an optimizer of
    PyTorch; natural gradients are those of `DeepGP.fit`.

    Examples
    --------
    >>> import torch
    >>> from fastvis.gp import DeepGP, Gaussian, GPLayer, SquaredExponential
    >>> from fastvis.torch import DeepGPBound
    >>> x, y = torch.rand(20, 3), torch.rand(20, 1)
    >>> features = torch.nn.Linear(3, 2)
    >>> layers = [GPLayer(SquaredExponential(), 5)]
    >>> model = DeepGP(layers, Gaussian(0.1), n_steps=0, rng=0)
    >>> bound = DeepGPBound(model.fit(features(x).detach(), y), n_data=20)
    >>> bound(features(x), y, rng=0).backward()
    >>> features.weight.grad.shape
    torch.Size([2, 3])
    """

    def __init__(self, model, n_data):
        super().__init__()
        if not isinstance(model, DeepGP):
            raise TypeError(f"model must be a fastvis.gp.DeepGP; got {type(model).__name__}.")
        check_is_fitted(model, "parameters_")
        self.model, self.n_data = model, check_int(n_data, "n_data", minimum=1)
        self.theta = nn.Parameter(torch.from_numpy(model.parameters_.copy()))

    def forward(self, x, y, *, n_samples=10, rng=None):
        """Estimate the ELBO of all data from a batch.

        Parameters
        ----------
        x : Tensor, (B, D)
        y : Tensor, (B, n_outputs)
        n_samples : int
            Paths for each point.
        rng : None, int or numpy.random.Generator
            Of the paths.

        Returns
        -------
        Tensor, ()
            Of the dtype of x.
        """
        for tensor, name in ((x, "x"), (y, "y")):
            check_tensor(tensor, name, "(B, D)", "fastvis.gp.DeepGP")
        if x.device.type != "cpu" or y.device.type != "cpu":
            raise ValueError(f"x and y must be on the CPU; got {x.device} and {y.device}.")
        if y.requires_grad:
            raise ValueError("y must not need a gradient. Pass y.detach().")
        n_samples, rng = check_int(n_samples, "n_samples", minimum=1), check_rng(rng)
        return _Bound.apply(x, self.theta, y, self.model, self.n_data, n_samples, rng)

    @torch.no_grad()
    def fitted(self):
        """Return the model with these parameters: to predict with, to save."""
        self.model.parameters_[:] = self.theta.double().numpy()
        self.model._finish()
        return self.model


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, theta, y, model, n_data, n_samples, rng):
        points, observed = model._check_data(x.detach().numpy(), y.detach().numpy())
        slots = model._slots
        parameters = slots.views(theta.detach().double().numpy())
        data, divergence, gradient, d_x = evidence_bound(
            model._bound, model._likelihood, parameters, points, observed, n_samples,
            n_data / len(points), rng,
        )  # fmt: skip
        d_theta = np.zeros(slots.size)
        for name, view in slots.views(d_theta).items():
            view[...] = gradient[name]
        d_theta *= model._trained()
        ctx.save_for_backward(torch.from_numpy(d_x).to(x), torch.from_numpy(d_theta).to(theta))
        return x.new_tensor(data.mean() - divergence)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        d_x, d_theta = ctx.saved_tensors
        return gradient * d_x, gradient.to(d_theta) * d_theta, None, None, None, None, None
