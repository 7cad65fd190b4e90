"""Asking any model for responses; and families of stimuli."""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from torch import nn  # noqa: E402

from fastvis.twin import (  # noqa: E402
    DifferencesOfGaussians,
    EncodingModel,
    Gabors,
    Recording,
    RotationEquivariantCore,
    difference_of_gaussians,
    gabor,
)
from fastvis.twin.responding import Responder, as_module, evaluating  # noqa: E402

SIZE = (6, 7)


@pytest.fixture
def images(rng):
    return rng.normal(size=(11, *SIZE)).astype(np.float32)


@pytest.fixture
def module():
    """Its responses depend on its mode, and on nothing else than an image outside training."""
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
    norm.running_mean.fill_(0.3)
    return nn.Sequential(convolution, norm, nn.Dropout(0.5), nn.Flatten(), nn.Linear(40, 4))


def linear(images):
    """Three neurons."""
    return np.stack([images.sum((1, 2)), images[:, 0, 0], images[:, 2, 3] ** 2], axis=1)


class TestResponder:
    def test_callables(self, images):
        seen = []

        def model(x):
            seen.append((x.dtype, x.shape))
            return linear(x)

        found = Responder(model, batch_size=4)(images.astype(float))
        assert seen == [(np.float32, (n, *SIZE)) for n in (4, 4, 3)]
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, linear(images), rtol=1e-6)
        assert Responder(model).n_neurons((5, 5)) == 3

    def test_modules_are_asked_in_evaluation_mode(self, module, images):
        expected = copy.deepcopy(module).eval()(torch.tensor(images)[:, None]).detach().numpy()
        module.train()
        module[1].eval()  # as of a frozen batch norm
        before = copy.deepcopy(module.state_dict())
        for batch_size in (4, 100):
            found = Responder(module, batch_size)(images)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert [part.training for part in module] == [True, False, True, True, True]
        assert module.training
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in module.parameters())

    def test_mode_is_restored_after_an_error(self, module):
        with pytest.raises(RuntimeError):
            Responder(module)(np.zeros((2, 9, 9)))
        assert all(part.training for part in module.modules())
        with pytest.raises(KeyError), evaluating(module.eval()):
            raise KeyError
        assert not any(part.training for part in module.modules())

    def test_modules_of_other_precision(self, module, images):
        found = Responder(module.double())(images)
        module.eval().float()
        np.testing.assert_allclose(found, Responder(module)(images), rtol=1e-4, atol=1e-5)

    def test_encoding_models_are_asked_in_their_own_units(self, rng):
        shown = rng.normal(5, 2, size=(30, *SIZE))
        recordings = [
            Recording.from_arrays(shown, rng.poisson(k, (30, k)) * 3.0, rng=0) for k in (2, 1)
        ]
        model = EncodingModel(RotationEquivariantCore((3,), 2, 4), rng=0)
        responder = Responder(model.fit(recordings, max_steps=1))
        unit = model.units_[1]
        found = responder(unit.images(shown))
        assert found.shape == (30, 3)
        expected = model.predict(shown, recording=1) / unit.response_scale
        np.testing.assert_allclose(found[:, 2:], expected, rtol=1e-5)
        assert as_module(model) is model.module_

    def test_own(self, images):
        neurons = np.arange(11) % 3
        expected = linear(images)[np.arange(11), neurons]
        for batch_size in (3, 4, 100):
            found = Responder(linear, batch_size).own(images, neurons)
            np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize(
        ("model", "error", "message"),
        [
            (lambda x: linear(x)[0], ValueError, r"return \(11, n_neurons\) .*; got shape \(3,\)"),
            (lambda x: linear(x)[1:], ValueError, r"for 11 images; got shape \(10, 3\)"),
            (lambda x: linear(x) * np.nan, ValueError, "finite responses; got NaN or infinity"),
            (lambda x: linear(x) / 0, ValueError, "finite responses"),
            (lambda x: None, TypeError, "model must return numbers; got dtype object"),
            (lambda x: linear(x) * 1j, TypeError, "model must return numbers; got dtype complex"),
            (nn.Flatten(2), ValueError, r"got shape \(11, 1, 42\)"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:divide by zero")
    def test_wrong_responses(self, model, error, message, images):
        with pytest.raises(error, match=message):
            Responder(model)(images)

    @pytest.mark.parametrize("model", [None, "model", np.zeros(3), EncodingModel()])
    def test_wrong_models(self, model):
        with pytest.raises(TypeError, match="model must be a fitted EncodingModel, a torch.nn.Mod"):
            Responder(model)

    def test_wrong_batches(self):
        with pytest.raises(ValueError, match="batch_size must be an integer >= 1; got 0"):
            Responder(linear, 0)


CENTER = np.array([[1.0, 2.0], [3.0, 3.0], [2.0, 5.0]])
FAMILIES = [
    (Gabors, gabor, dict(sigma=[1.0, 2, 3], frequency=0.1, orientation=[0.0, 1, 2], contrast=2.0)),
    (DifferencesOfGaussians, difference_of_gaussians,
     dict(sigma_center=1.0, sigma_surround=[2.0, 3, 4], contrast=[1.0, -1, 1], surround=0.3)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "draw", "parameters"), FAMILIES)
class TestFamilies:
    def test_one_stimulus_for_each_neuron(self, kind, draw, parameters):
        family = kind(CENTER, **parameters)
        assert len(family) == 3
        images = family.images(SIZE)
        assert images.shape == (3, *SIZE)
        assert images.dtype == np.float32
        for i in range(3):
            own = {k: v[i] if isinstance(v, list) else v for k, v in parameters.items()}
            expected = draw(SIZE, center=CENTER[i], **own)
            np.testing.assert_allclose(images[i], expected, atol=1e-6)

    def test_numbers_stand_for_all(self, kind, draw, parameters):
        family = kind(CENTER, **parameters)
        for name in family.names():
            value = getattr(family, name)
            assert value.shape == (3,)
            assert value.dtype == np.float64
            if name in parameters:
                np.testing.assert_array_equal(value, np.broadcast_to(parameters[name], 3))
        family.contrast[0] = 9.0  # no view of one number
        assert family.contrast[2] == np.broadcast_to(parameters["contrast"], 3)[2]

    @pytest.mark.parametrize("rows", [slice(1, None), [2, 0], np.array([True, False, True])])
    def test_rows(self, kind, draw, parameters, rows):
        family = kind(CENTER, **parameters)
        part = family[rows]
        assert type(part) is kind
        assert len(part) == 2
        np.testing.assert_array_equal(part.images(SIZE), family.images(SIZE)[rows])

    def test_changed_parameters(self, kind, draw, parameters):
        family = kind(CENTER, **parameters)
        contrast = np.array([[1.0], [3.0]]) * family.contrast
        found = family.images(SIZE, contrast=contrast)
        assert found.shape == (2, 3, *SIZE)
        np.testing.assert_allclose(found[1], 3 * family.images(SIZE), atol=1e-5)
        moved = family.images(SIZE, center=CENTER + np.array([[[0, 0]], [[1, 0]]]))
        np.testing.assert_array_equal(moved[0], family.images(SIZE))
        np.testing.assert_allclose(moved[1, :, 1:], moved[0, :, :-1], atol=1e-6)
        with pytest.raises(TypeError, match="phases"):
            family.images(SIZE, phases=0.0)

    def test_errors(self, kind, draw, parameters):
        with pytest.raises(ValueError, match=r"contrast must be \(3,\); got shape \(2,\)"):
            kind(CENTER, **parameters | dict(contrast=[1.0, 2.0]))
        with pytest.raises(ValueError, match="contrast must be finite"):
            kind(CENTER, **parameters | dict(contrast=np.nan))
        with pytest.raises(ValueError, match=r"center must be \(n, 2\).*; got shape \(2, 3\)"):
            kind(CENTER.T, **parameters | {k: 1.0 for k in parameters})
        with pytest.raises(ValueError, match="center must have 2 dimensions"):
            kind(CENTER[0], **parameters)
        with pytest.raises(TypeError, match="contrast must be an array of"):
            kind(CENTER, **parameters | dict(contrast="high"))
