"""The ELBO of a deep GP as a tensor."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastvis.gp import DeepGP, Gaussian, GPLayer, SquaredExponential  # noqa: E402
from fastvis.torch import DeepGPBound  # noqa: E402
from fastvis.torch.deep_gp import _Bound  # noqa: E402


def make_model(posterior="chain", **options):
    x, y = np.random.default_rng(0).normal(size=(2, 9, 2))
    k = SquaredExponential()
    layers = [GPLayer(k, 4, 2, mean="identity"), GPLayer(k, 4, 2)]
    options = {"n_steps": 0, "jitter": 1e-3, "rng": 0, **options}
    return DeepGP(layers, Gaussian(0.1), posterior, **options).fit(x, y), x, y


@pytest.mark.parametrize("posterior", ["factorized", "chain", "locations"])
def test_gradcheck(posterior):
    model, x, y = make_model(posterior)
    x = torch.from_numpy(x).requires_grad_()
    y = torch.from_numpy(y)

    def value(x, theta):
        return _Bound.apply(x, theta, y, model, 30, 3, np.random.default_rng(5))

    theta = DeepGPBound(model, 30).theta.detach().clone().requires_grad_()
    torch.autograd.gradcheck(value, (x, theta), eps=1e-6, atol=1e-3, rtol=1e-5)


def test_value_is_that_of_the_model():
    model, x, y = make_model()
    bound = DeepGPBound(model, len(x))
    value = bound(torch.from_numpy(x), torch.from_numpy(y), n_samples=50, rng=0)
    assert value.item() == pytest.approx(model.elbo(x, y, 50, rng=0).value, rel=1e-12)
    assert bound(torch.from_numpy(x).float(), torch.from_numpy(y)).dtype == torch.float32


def test_training_a_network_in_front(rng):
    """y depends on a direction of x that the network has to find."""
    x = torch.from_numpy(rng.normal(size=(80, 5)))
    y = torch.sin(2 * x[:, :1] + x[:, 1:2])
    net = torch.nn.Linear(5, 1, bias=False).double()
    torch.nn.init.constant_(net.weight, 0.3)
    layer = GPLayer(SquaredExponential(), 12)
    start = DeepGP([layer], Gaussian(0.1), n_steps=0, rng=0).fit(net(x).detach(), y)
    bound = DeepGPBound(start, len(x))
    optimizer = torch.optim.Adam([*net.parameters(), bound.theta], lr=0.03)
    values = []
    for _ in range(300):
        optimizer.zero_grad()
        loss = -bound(net(x), y, n_samples=1, rng=0)
        loss.backward()
        optimizer.step()
        values.append(-loss.item())
    assert values[-1] > values[0] + 50
    fitted = bound.fitted()
    error = fitted.predict(net(x).detach()).mean - y.numpy()
    assert error.std() < 0.2 * y.std().item()


def test_frozen_gets_no_gradient():
    model, x, y = make_model(frozen=("hyperparameters", "inducing", "likelihood"))
    bound = DeepGPBound(model, len(x))
    bound(torch.from_numpy(x), torch.from_numpy(y), rng=0).backward()
    views = model._slots.views(bound.theta.grad.numpy())
    assert not any(views[0, name].any() for name in ("theta", "z"))
    assert views[0, "n"].any()


def test_wrong_shapes():
    model, x, y = make_model()
    with pytest.raises(ValueError, match="of the same length"):
        DeepGPBound(model, 9)(torch.from_numpy(x), torch.from_numpy(y[:3]))
