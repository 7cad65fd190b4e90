"""Encoding models: the loss by plain loops, LN neurons, units, schedules, resuming, files."""

import copy
import os
import pickle
import signal
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
lightning = pytest.importorskip("lightning", reason="needs the torch extra")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from torch import nn  # noqa: E402

from fastvis._training import Schedule  # noqa: E402
from fastvis.scenes.econ import ECON  # noqa: E402
from fastvis.twin import (  # noqa: E402
    EncodingModel,
    FactorizedReadout,
    GaussianReadout,
    Recording,
    RotationEquivariantCore,
    gabor,
)
from fastvis.twin.training import RecordingTraining  # noqa: E402

SIZE = (9, 11)
TINY = dict(batch_size=8, validate_every=2, learning_rate=1e-2, rng=0)
READOUTS = ["factorized", "gaussian"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sums of floats have one order, and tiny networks are faster."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def tiny_core(seed=0, **options):
    torch.manual_seed(seed)
    return RotationEquivariantCore((5, 3), n_features=2, n_orientations=4, **options)


def noisy(n_train=40, n_validation=20, n_neurons=3, seed=0, size=SIZE):
    """Poisson responses to three pixels of each image."""
    rng = np.random.default_rng(seed)
    images = rng.normal(5.0, 3.0, (n_train + n_validation, *size))
    pixels = images[:, size[0] // 2, :n_neurons]
    responses = rng.poisson(np.exp(0.3 * (pixels - 5))) * np.arange(1, n_neurons + 1)
    tiers = ["train"] * n_train + ["validation"] * n_validation
    return Recording(images, responses, np.arange(len(images)), tiers)


@pytest.fixture(scope="module")
def recording():
    return noisy()


@pytest.fixture(scope="module")
def pair():
    return [noisy(), noisy(30, 10, n_neurons=2, seed=1)]


@pytest.fixture(scope="module")
def model(pair):
    """A fit, for what reads it."""
    return EncodingModel(tiny_core(), **TINY).fit(pair, max_steps=4)


def weights_of(model):
    return {k: v.clone() for k, v in model.module_.state_dict().items()}


def assert_same_weights(one, other):
    one, other = weights_of(one), weights_of(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def mean_loss(model, recordings):
    """(r_hat - r log(r_hat + 1e-5)), over validation trials, by `predict`."""
    total = 0.0
    for i, recording in enumerate(recordings):
        scale = model.units_[i].response_scale
        responses, ids = recording.of_tier("validation")
        r_hat = model.predict(recording.images[ids], recording=i).astype(float) / scale
        r = responses / scale
        total += (r_hat - r * np.log(r_hat + 1e-5)).sum(1).mean()
    return total


class TestLoss:
    @pytest.mark.parametrize("readout", READOUTS)
    @pytest.mark.parametrize("variant", ["ecker", "neuralpredictors"])
    def test_training_loss_is_the_formula(self, readout, variant, pair):
        model = EncodingModel(tiny_core(), readout)
        network = model._seeded_module(SIZE, [3, 2], [np.ones(3), np.ones(2)], 0).eval()
        units = [r.normalization() for r in pair]
        training = RecordingTraining(
            network, pair, units, [0.3, 0.5, 0.7], variant, Schedule(1, 1, 1, 1, 1, 1.0), 0, {}
        )
        rows = [[0, 4, 7], [1, 2]]
        batch = training.train_data[rows]
        expected = 0.0
        first = 0
        for recording, unit, of_recording in zip(pair, units, rows):
            responses, ids = recording.of_tier("train")
            n = responses.shape[1]
            for i in of_recording:
                z = (recording.images[ids[i]] - unit.mean) / unit.deviation
                r_hat = network(torch.tensor(z, dtype=torch.float32)[None, None])[0].double()
                for k in range(n):
                    r = responses[i, k] / unit.response_scale[k]
                    term = r_hat[first + k] - r * torch.log(r_hat[first + k] + 1e-5)
                    expected += term.item() / len(of_recording)
            first += n
        with torch.no_grad():
            assert training.loss(batch, None, None) != pytest.approx(expected, rel=1e-3)
            expected += 0.3 * network.core.smoothness(variant).item()
            expected += 0.5 * network.core.group_sparsity(variant).item()
            for part in network.readouts:
                for k in range(len(part.weights)):
                    norm = part.weights[k].abs().sum().item()
                    if readout == "factorized":
                        norm *= part.masks[k].abs().sum().item()
                    expected += 0.7 * norm
            assert training.loss(batch, 0, None).item() == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("readout", READOUTS)
    @pytest.mark.parametrize("chunk", [4, 1000])
    def test_validation_is_the_mean_over_all_trials(self, readout, chunk, monkeypatch):
        """In chunks of any size, of recordings of any; without penalties."""
        monkeypatch.setattr("fastvis.twin.training.CHUNK", chunk)
        recordings = [noisy(20, 23), noisy(10, 3, n_neurons=2, seed=1)]
        model = EncodingModel(tiny_core(), readout, **TINY, smoothness=100.0)
        model.fit(recordings, max_steps=2)
        assert model.losses_[0] == pytest.approx(mean_loss(model, recordings), rel=1e-5)


@pytest.mark.parametrize("readout", READOUTS)
def test_learns_linear_nonlinear_neurons(readout):
    """Of Gabors at four places and orientations; tested without noise, on other images."""
    rng = np.random.default_rng(0)
    centers = np.array([[2.0, 2], [2, 6], [6, 2], [5, 6]])
    angles = np.pi / 4 * np.arange(4)
    filters = gabor(9, sigma=1.2, frequency=0.2, orientation=angles, center=centers)
    images = rng.normal(size=(900, 9, 9)).astype(np.float32)
    rates = np.maximum(np.einsum("nhw,khw->nk", images, filters), 0) * [6.0, 12, 24, 48]
    tiers = ["train"] * 600 + ["validation"] * 100
    recording = Recording(images[:700], rng.poisson(rates[:700]), np.arange(700), tiers)
    torch.manual_seed(0)
    core = RotationEquivariantCore((5, 3), n_features=4, n_orientations=8)
    model = EncodingModel(
        core, readout, smoothness=0.0, group_sparsity=0.0, readout_sparsity=0.005, batch_size=32,
        validate_every=25, learning_rate=0.02, rng=0,
    ).fit(recording, max_steps=250)  # fmt: skip
    found = model.predict(images[700:])
    for k in range(4):
        assert np.corrcoef(found[:, k], rates[700:, k])[0, 1] > 0.93
    np.testing.assert_allclose(found.mean(0), rates[700:].mean(0), rtol=0.25)
    np.testing.assert_allclose(model.places(), centers, atol=1.5)


class TestRecordings:
    def test_own_readouts_units_and_order(self, model, pair):
        assert [len(r.biases) for r in model.module_.readouts] == [3, 2]
        assert model.image_size_ == SIZE
        images = pair[1].images[:5]
        for i, recording in enumerate(pair):
            train, ids = recording.of_tier("train")
            pixels = recording.images[ids].astype(float)
            z = torch.tensor((images - pixels.mean()) / pixels.std(), dtype=torch.float32)
            columns = (slice(0, 3), slice(3, 5))[i]
            with torch.no_grad():
                expected = model.module_(z[:, None])[:, columns].numpy() * train.std(0)
            found = model.predict(images, recording=i)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-4)
        expected = [r.weights * r.masks.abs().sum((1, 2))[:, None] for r in model.module_.readouts]
        expected = torch.cat(expected).detach().unflatten(1, (4, 2)).transpose(1, 2)
        assert model.readouts().shape == (5, 2, 4)
        np.testing.assert_allclose(model.readouts(), expected, rtol=1e-5)
        assert model.places().shape == (5, 2)

    def test_the_core_is_shared(self, pair):
        """It learns from both: the first recording's readouts are others with another second."""
        other = noisy(30, 10, n_neurons=2, seed=7)
        one, two = (
            EncodingModel(tiny_core(), **TINY).fit([pair[0], second], max_steps=2)
            for second in (pair[1], other)
        )
        images = pair[0].images
        assert not np.allclose(one.predict(images), two.predict(images), rtol=1e-4)

    def test_predictions_are_in_the_units_of_the_recording(self, recording):
        factors = np.array([3.0, 0.5, 40.0])
        other = Recording(
            7 * recording.images - 100, factors * recording.responses, recording.image_ids,
            recording.tiers,
        )  # fmt: skip
        one, two = (
            EncodingModel(tiny_core(), **TINY).fit(r, max_steps=6) for r in (recording, other)
        )
        found = two.predict(other.images)
        np.testing.assert_allclose(found, factors * one.predict(recording.images), rtol=1e-3)
        np.testing.assert_allclose(one.losses_, two.losses_, rtol=1e-4)

    def test_repeats_are_trials(self, recording):
        """An image that was shown twice is normalized once."""
        twice = Recording(
            recording.images, np.repeat(recording.responses, 2, 0),
            np.repeat(recording.image_ids, 2), np.repeat(recording.tiers, 2),
        )  # fmt: skip
        one, two = (
            EncodingModel(tiny_core(), **TINY).fit(r, max_steps=2) for r in (recording, twice)
        )
        assert one.units_[0].mean == two.units_[0].mean
        assert mean_loss(two, [recording]) == pytest.approx(two.losses_[0], rel=1e-5)

    def test_batches_of_any_size(self, model):
        images = np.random.default_rng(1).normal(size=(300, *SIZE))
        each = np.concatenate([model.predict(images[i : i + 50]) for i in range(0, 300, 50)])
        np.testing.assert_allclose(model.predict(images), each, rtol=1e-4)

    @pytest.mark.parametrize("readout", READOUTS)
    def test_little_data(self, readout):
        images = np.random.default_rng(0).normal(size=(6, *SIZE))
        tiers = ["train"] + ["validation"] * 5
        for r, t in ((np.zeros((6, 2)), tiers), (np.ones((6, 2)), tiers[::-1])):
            recording = Recording(images, r, np.arange(6), t[1:] + t[:1])
            model = EncodingModel(tiny_core(), readout, **TINY | dict(batch_size=100))
            model.fit(recording, max_steps=20)
            assert np.isfinite(model.losses_).all()
            assert abs(model.predict(images) - r).max() < 0.7

    def test_features_of_one_pixel(self):
        recording = noisy(size=(7, 7))
        model = EncodingModel(tiny_core(padding="valid"), "gaussian", **TINY)
        model.fit(recording, max_steps=2)
        np.testing.assert_array_equal(model.places(), np.full((3, 2), 3.0))
        assert np.isfinite(model.predict(recording.images)).all()


class TestTraining:
    def fitted(self, recording, readout="factorized", **options):
        """A run that gets worse at last: few trials, and a rate that is too high."""
        fit = {k: options.pop(k) for k in ("checkpoints", "resume", "max_steps") if k in options}
        parameters = TINY | dict(learning_rate=0.1, patience=2) | options
        return EncodingModel(tiny_core(), readout, **parameters).fit(recording, **fit)

    @pytest.mark.parametrize("readout", READOUTS)
    def test_schedule_and_best_weights(self, readout, recording):
        model = self.fitted(recording, readout)
        rate, best, failures, rates = 0.1, np.inf, 0, []
        for loss in model.losses_:
            rates.append(rate)
            failures = 0 if loss < best else failures + 1
            best = min(loss, best)
            if failures == 2:
                rate, failures = rate / 10, 0
        np.testing.assert_allclose(model.learning_rates_, rates)
        assert rate == pytest.approx(1e-3)  # a last fall ended it
        assert model.stopped_by_ == "schedule"
        np.testing.assert_array_equal(model.steps_, 2 * np.arange(1, len(rates) + 1))
        assert model.losses_[-1] > best
        assert mean_loss(model, [recording]) == pytest.approx(best, rel=1e-5)

    def test_a_fall_goes_back_to_the_best_validation(self, recording, tmp_path):
        """Weights, batch norm and Adam's moments, all but the rate."""
        whole = self.fitted(recording)
        fall = int(np.flatnonzero(np.diff(whole.learning_rates_))[0])
        best = int(whole.losses_[: fall + 1].argmin())
        assert best == fall - 2
        stored = []
        for i in (best, fall):
            self.fitted(recording, checkpoints=tmp_path, max_steps=int(whole.steps_[i]))
            stored.append(torch.load(tmp_path / "last.ckpt", weights_only=True))
        one, two = stored
        for name, x in one["state_dict"].items():
            assert torch.equal(x, two["state_dict"][name]), name
        one, two = (checkpoint["optimizer_states"][0] for checkpoint in stored)
        for number, state in one["state"].items():
            for name, x in state.items():
                assert torch.equal(x, two["state"][number][name])
        assert two["param_groups"][0]["lr"] == pytest.approx(one["param_groups"][0]["lr"] / 10)

    @pytest.mark.parametrize("readout", READOUTS)
    def test_resumed_is_as_never_interrupted(self, readout, recording, tmp_path):
        whole = self.fitted(recording, readout)
        fall = np.flatnonzero(np.diff(whole.learning_rates_))[0]
        assert whole.losses_[fall] > whole.losses_[: fall + 1].min()
        for i in (1, fall):  # in between, and with the best weights restored
            folder = tmp_path / str(i)
            self.fitted(recording, readout, checkpoints=folder, max_steps=int(whole.steps_[i]))
            part = self.fitted(recording, readout, checkpoints=folder, resume=True, rng=1)
            assert_same_weights(part, whole)
            np.testing.assert_array_equal(part.losses_, whole.losses_)
            np.testing.assert_array_equal(part.learning_rates_, whole.learning_rates_)
            assert part.stopped_by_ == "schedule"

    def test_resumed_after_its_end(self, recording, tmp_path):
        options = dict(checkpoints=tmp_path, patience=1, max_steps=100)
        whole = self.fitted(recording, **options)
        again = self.fitted(recording, **options, resume=True)
        assert_same_weights(again, whole)
        assert again.stopped_by_ == "schedule"
        np.testing.assert_array_equal(again.losses_, whole.losses_)

    def test_interrupt_keeps_the_best_weights(self, recording):
        def interrupt(step, loss):
            if step == 2 * n:
                os.kill(os.getpid(), signal.SIGINT)

        losses = self.fitted(recording).losses_
        n = int(losses.argmin()) + 2  # one validation after the best
        handler = signal.getsignal(signal.SIGINT)
        model = self.fitted(recording, callback=interrupt)
        assert model.stopped_by_ == "interrupted"
        np.testing.assert_array_equal(model.losses_, losses[:n])
        assert mean_loss(model, [recording]) == pytest.approx(losses.min(), rel=1e-5)
        assert signal.getsignal(signal.SIGINT) is handler

    def test_callback_ends_training(self, recording):
        seen = []

        def callback(step, loss):
            seen.append((step, loss))
            return len(seen) == 2

        model = self.fitted(recording, callback=callback)
        assert seen == list(zip(model.steps_, model.losses_))
        assert model.steps_.tolist() == [2, 4]
        assert model.stopped_by_ == "callback"

    def test_max_steps(self, recording):
        model = self.fitted(recording, max_steps=3)
        assert model.stopped_by_ == "max_steps"
        assert model.steps_.tolist() == [2, 3]
        assert mean_loss(model, [recording]) == pytest.approx(model.losses_.min(), rel=1e-5)

    @pytest.mark.parametrize("limit", [{"max_steps": 4}, {"max_epochs": 2}])
    def test_trainer_of_the_user(self, recording, limit):
        """It validates before the first step, which must not count."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, accelerator="cpu", **limit,
            )  # fmt: skip
            theirs = EncodingModel(tiny_core(), **TINY).fit(recording, trainer=trainer)
        ours = EncodingModel(tiny_core(), **TINY).fit(recording, max_steps=4)
        assert theirs.stopped_by_ == "max_steps"
        assert theirs.steps_.tolist() == [2, 4]
        assert_same_weights(theirs, ours)
        with pytest.raises(ValueError, match="trainer must have steps left"):
            EncodingModel(tiny_core(), **TINY).fit(recording, trainer=trainer)

    def test_divergence_keeps_the_best_weights(self, recording, tmp_path):
        self.fitted(recording, max_steps=2, checkpoints=tmp_path)
        last = tmp_path / "last.ckpt"
        checkpoint = torch.load(last, weights_only=True)
        checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 1e30
        torch.save(checkpoint, last)
        with pytest.warns(ConvergenceWarning, match="not finite at step 4. .* has the best weight"):
            model = self.fitted(recording, checkpoints=tmp_path, resume=True)
        assert model.stopped_by_ == "diverged"
        assert mean_loss(model, [recording]) == pytest.approx(model.losses_[0], rel=1e-5)
        with pytest.warns(ConvergenceWarning, match="has no good weights. Take a smaller"):
            self.fitted(recording, learning_rate=1e30)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(smoothness=0.1), "smoothness must be 0.0249692, as in .*last.ckpt.*; got 0.1"),
            (dict(readout="gaussian"), "readout must be 'factorized', as in"),
            (dict(batch_size=5), "batch_size must be 8"),
            (dict(core=tiny_core(padding="valid")), "core must be .*'same'.*; got .*'valid'"),
            (dict(core=nn.Conv2d(1, 8, 3, padding=1)), "core must be .*; got None"),
        ],
    )
    def test_checkpoint_of_another_model(self, changes, message, recording, tmp_path):
        model = EncodingModel(tiny_core(), **TINY).fit(recording, max_steps=2, checkpoints=tmp_path)
        before = weights_of(model)
        with pytest.raises(ValueError, match=message):
            model.set_params(**changes).fit(recording, checkpoints=tmp_path, resume=True)
        assert all(torch.equal(before[k], v) for k, v in weights_of(model).items())

    def test_checkpoint_of_something_else(self, recording, pair, tmp_path):
        again = dict(checkpoints=tmp_path, resume=True, max_steps=4)
        model = EncodingModel(tiny_core(), **TINY).fit(recording, max_steps=2, checkpoints=tmp_path)
        with pytest.raises(ValueError, match=r"n_neurons must be \(3,\), as in .*; got \(3, 2\)"):
            model.fit(pair, **again)
        with pytest.raises(ValueError, match=r"size must be \(9, 11\), as in .*; got \(9, 12\)"):
            model.fit(noisy(size=(9, 12)), **again)
        last = tmp_path / "last.ckpt"
        content = last.read_bytes()
        for damaged in (content[:-100], content[:50], b"", b"no checkpoint"):
            last.write_bytes(damaged)
            with pytest.raises(ValueError, match="last.ckpt.* cannot be read"):
                model.fit(recording, **again)
        pictures = np.zeros((4, 16, 16, 3), np.uint8)
        options = dict(
            latent_dim=2, n_layers=1, n_features=2, attention_channels=(2,), validate_every=1
        )
        ECON(2, 2, **options).fit(pictures, max_steps=1, checkpoints=tmp_path / "econ")
        with pytest.raises(ValueError, match="last.ckpt"):
            model.fit(recording, checkpoints=tmp_path / "econ", resume=True)

    @pytest.mark.parametrize("readout", READOUTS)
    def test_rng(self, readout, recording):
        """Whatever was drawn before."""
        fits = []
        for seed in (0, 0, 1):
            torch.rand(len(fits))
            core = tiny_core() if readout == "gaussian" else None  # None is drawn
            model = EncodingModel(core, readout, **TINY | dict(rng=seed))
            fits.append(model.fit(recording, max_steps=2))
        assert_same_weights(*fits[:2])
        assert not np.allclose(fits[0].readouts(), fits[2].readouts())
        generator = np.random.default_rng(0)
        model.set_params(rng=generator).fit(recording, max_steps=2)
        assert_same_weights(model, fits[0])


class TestCores:
    def test_any_module(self, recording, tmp_path):
        core = nn.Sequential(nn.Conv2d(1, 6, 3), nn.Softplus(), nn.Conv2d(6, 5, 3))
        before = copy.deepcopy(core.state_dict())
        model = EncodingModel(core, **TINY).fit(recording, max_steps=6)
        assert all(torch.equal(before[k], v) for k, v in core.state_dict().items())
        assert not torch.equal(before["0.weight"], model.module_.core[0].weight)
        assert model.readouts().shape == (3, 5, 1)
        np.testing.assert_allclose(
            model.readouts()[..., 0], model.module_.readouts[0].feature_weights().detach()
        )
        with pytest.raises(TypeError, match=r"core must be a RotationEquivariantCore.*state_dict"):
            model.save(tmp_path / "model")
        assert not list(tmp_path.iterdir())

    def test_any_readout(self, recording, tmp_path):
        def wide(*args, **kwargs):
            return GaussianReadout(*args, **kwargs, sigma=0.5, covariance="full")

        model = EncodingModel(tiny_core(), wide, **TINY | dict(learning_rate=1e-12))
        model.fit(recording, max_steps=2)
        spread = model.module_.readouts[0].spread.detach()
        np.testing.assert_allclose(spread, np.tile(0.5 * np.eye(2), (3, 1, 1)), atol=1e-10)
        with pytest.raises(TypeError, match="readout a name"):
            model.set_params(readout="gaussian").save(tmp_path / "model")

    def test_of_other_precision(self, recording):
        one, two = (
            EncodingModel(core, **TINY).fit(recording, max_steps=2)
            for core in (tiny_core(), tiny_core().double())
        )
        assert_same_weights(one, two)

    def test_mode_is_that_of_training(self, recording):
        """Batch norm learns, though the core was looked at before; a frozen core does not."""
        one, two = (
            EncodingModel(core, **TINY).fit(recording, max_steps=2)
            for core in (tiny_core(), tiny_core().eval())
        )
        assert_same_weights(one, two)
        frozen = tiny_core().requires_grad_(False)
        model = EncodingModel(frozen, **TINY).fit(recording, max_steps=4)
        for (name, x), y in zip(
            frozen.state_dict().items(), model.module_.core.state_dict().values()
        ):
            assert torch.equal(x, y), name
        assert model.losses_[1] < model.losses_[0]

    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize("kind", READOUTS)
    def test_places_are_where_neurons_look(self, kind, padding, recording):
        """The center of the pixels on which the response depends."""
        model = EncodingModel(tiny_core(padding=padding), kind, **TINY).fit(recording, max_steps=1)
        readout, border = model.module_.readouts[0], 3 if padding == "valid" else 0
        height, width = SIZE[0] - 2 * border, SIZE[1] - 2 * border
        row, column = 4 - border, 6 - border  # three pixels from every border, at least
        with torch.no_grad():
            if kind == "gaussian":
                readout.means[:] = torch.tensor(
                    [2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1]
                )
            else:
                readout.masks.zero_()[:, row, column] = -0.5
        np.testing.assert_allclose(model.places(), [[4, 6]] * 3, atol=1e-5)
        x = torch.randn(1, 1, *SIZE, requires_grad=True)
        model.module_(x)[0, 0].backward()
        seen = torch.nonzero(x.grad[0, 0].abs() > 1e-6 * x.grad.abs().max()).double()
        assert ((seen.amin(0) + seen.amax(0)) / 2).tolist() == [4, 6]
        assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [7, 7]

    def test_turned_images_are_those_of_turned_readouts(self):
        """A quarter turn: masks turned back, orientations rolled by a quarter of them."""
        recording = noisy(size=(9, 9))
        model = EncodingModel(tiny_core(), **TINY).fit(recording, max_steps=10)
        other = copy.deepcopy(model)
        readout = other.module_.readouts[0]
        with torch.no_grad():
            readout.masks.copy_(readout.masks.rot90(-1, (1, 2)))
            by_orientation = readout.weights.unflatten(1, (4, 2))
            readout.weights.copy_(by_orientation.roll(-1, 1).flatten(1))
        images = recording.images
        found = model.predict(np.rot90(images, axes=(1, 2)))
        np.testing.assert_allclose(found, other.predict(images), rtol=1e-4)
        assert not np.allclose(found, model.predict(images), rtol=1e-2)
        np.testing.assert_allclose(other.readouts(), np.roll(model.readouts(), -1, 2), rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (1, 6), (4, 1), (1, 1)])
@pytest.mark.parametrize("kind", [FactorizedReadout, GaussianReadout])
def test_spatial_and_feature_weights_are_the_readout(kind, shape):
    torch.manual_seed(0)
    readout = kind(9, 3, shape, mean_responses=np.ones(9)).double().eval()
    with torch.no_grad():
        if kind is GaussianReadout:
            readout.means.uniform_(-1, 1)
            corners = [[-1, -1], [1, 1], [-1, 1], [0, 0], [1.4, -1.2], [1 / 3, -0.5]]
            readout.means[:6] = torch.tensor(corners)
        else:
            readout.masks[0] = 0  # looks nowhere
    features = torch.randn(4, 3, *shape, dtype=torch.float64)
    spatial, weights = readout.spatial_weights(), readout.feature_weights()
    found = torch.einsum("bcyx,nyx,nc->bn", features, spatial, weights) + readout.biases
    torch.testing.assert_close(found, readout(features), rtol=1e-6, atol=1e-8)
    assert spatial.min() >= 0
    total = torch.ones(9, dtype=torch.float64)
    total[0] = kind is GaussianReadout
    torch.testing.assert_close(spatial.sum((1, 2)), total)


class TestFiles:
    @pytest.mark.parametrize("readout", READOUTS)
    def test_round_trip(self, readout, pair, tmp_path):
        path = tmp_path / "model"
        parameters = TINY | dict(batch_size=np.int64(8), smoothness=np.float32(0.5))
        core = tiny_core(padding="valid", shared_batch_norm=False)
        model = EncodingModel(core, readout, **parameters).fit(pair, max_steps=2)
        model.save(path)
        loaded = EncodingModel.load(path)
        assert_same_weights(loaded, model)
        for i, recording in enumerate(pair):
            found = loaded.predict(recording.images, recording=i)
            np.testing.assert_array_equal(found, model.predict(recording.images, recording=i))
        np.testing.assert_array_equal(loaded.readouts(), model.readouts())
        np.testing.assert_array_equal(loaded.places(), model.places())
        one, two = (m.get_params() | dict(core=None, rng=None) for m in (loaded, model))
        assert one == two
        assert loaded.core.arguments() == core.arguments()
        loaded.save(path)
        assert_same_weights(EncodingModel.load(path), model)
        assert [p.name for p in tmp_path.iterdir()] == ["model"]

    def test_parameters_changed_after_the_fit(self, model, tmp_path):
        """What is fitted stays: parameters are for the next fit."""
        changed = copy.deepcopy(model).set_params(core=nn.Identity(), readout="gaussian")
        changed.save(tmp_path / "model")
        assert_same_weights(EncodingModel.load(tmp_path / "model"), model)

    def test_damaged_and_wrong_files(self, model, tmp_path):
        path = tmp_path / "model"
        model.save(path)
        content = path.read_bytes()
        for damaged in (content[:-100], content[:50], b"", b"no model"):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="path must be a file written by EncodingModel.sa"):
                EncodingModel.load(path)
        with pytest.raises(FileNotFoundError):
            EncodingModel.load(tmp_path / "none")
        with pytest.raises(FileNotFoundError, match="there is no folder .*no"):
            model.save(tmp_path / "no" / "model")
        with pytest.raises(IsADirectoryError, match="is a folder. Name a file in it"):
            model.save(tmp_path)

    def test_failed_write_leaves_the_older_file(self, model, tmp_path, monkeypatch):
        path = tmp_path / "model"
        model.save(path)
        content = path.read_bytes()

        def fail(tensors, filename, metadata):
            filename.write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr("fastvis._models.save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            model.save(path)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]

    def test_copies(self, model, pair):
        images = pair[0].images
        for other in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            np.testing.assert_array_equal(other.predict(images), model.predict(images))
        fresh = clone(model)
        assert not hasattr(fresh, "module_")
        assert_same_weights(fresh.fit(pair, max_steps=4), model)


class TestInput:
    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            (dict(core="hermite"), TypeError, "core must be a torch.nn.Module; got str"),
            (dict(core=RotationEquivariantCore), TypeError, "torch.nn.Module; got type"),
            (dict(core=nn.Conv2d(2, 4, 3)), ValueError, r"images \(n, 1, 9, 11\)"),
            (dict(core=nn.Conv2d(1, 4, 13)), ValueError, r"images \(n, 1, 9, 11\)"),
            (dict(core=nn.Flatten()), ValueError, r"features \(n, C, H, W\); got shape \(1, 99\)"),
            (dict(readout="point"), ValueError, "readout must be one of 'factorized', 'gaussian'"),
            (dict(penalties="none"), ValueError, "penalties must be one of"),
            (dict(learning_rate=np.nan), ValueError, "learning_rate must be a finite number > 0"),
            (dict(learning_rate=0), ValueError, "learning_rate must be a finite number > 0"),
            (dict(learning_rate="1e-3"), TypeError, "learning_rate must be a finite number > 0"),
            (dict(smoothness=-1), ValueError, "smoothness must be a finite number >= 0; got -1"),
            (dict(readout_sparsity=None), TypeError, "readout_sparsity must be"),
            (dict(batch_size=0), ValueError, "batch_size must be an integer >= 1"),
            (dict(validate_every=2.0), TypeError, "validate_every must be an integer"),
            (dict(patience="5"), TypeError, "patience must be an integer"),
            (dict(callback=5), TypeError, "callback must be callable or None; got 5"),
            (dict(rng="0"), TypeError, "rng must be"),
        ],
    )
    def test_parameters(self, changes, error, message, recording):
        with pytest.raises(error, match=message):
            EncodingModel(**dict(core=tiny_core()) | TINY | changes).fit(recording, max_steps=1)

    @pytest.mark.parametrize(
        ("given", "error", "message"),
        [
            (lambda r: [], TypeError, "recordings must be .*Recording, one or more; got none"),
            (lambda r: None, TypeError, "one or more; got NoneType"),
            (lambda r: r.images, TypeError, "one or more; got ndarray"),
            (lambda r: "name", TypeError, "one or more; got str"),
            (
                lambda r: [r, noisy(n_validation=0)],
                ValueError,
                "validation .* got none in number 1",
            ),
            (lambda r: [r, noisy(size=(9, 12))], ValueError, "one size; got .*9, 11.*9, 12"),
        ],
    )
    def test_recordings(self, given, error, message, recording):
        with pytest.raises(error, match=message):
            EncodingModel(tiny_core(), **TINY).fit(given(recording), max_steps=1)

    def test_other_arguments(self, recording, model):
        fresh = EncodingModel(tiny_core(), **TINY)
        with pytest.raises(ValueError, match="checkpoints must name a folder"):
            fresh.fit(recording, resume=True)
        with pytest.raises(ValueError, match="trainer brings its own"):
            fresh.fit(recording, trainer=object(), max_steps=1)
        with pytest.raises(TypeError, match="trainer must be a lightning.Trainer; got object"):
            fresh.fit(recording, trainer=object())
        with pytest.raises(ValueError, match="max_steps must be an integer >= 1; got 0"):
            fresh.fit(recording, max_steps=0)
        for ask in (fresh.readouts, fresh.places, lambda: fresh.predict(recording.images)):
            with pytest.raises(NotFittedError):
                ask()
        with pytest.raises(ValueError, match="images must be of 9 x 11; got shape .60, 9, 10"):
            model.predict(recording.images[..., 1:])
        with pytest.raises(ValueError, match="images must have 3 dimensions"):
            model.predict(recording.images[0])
        with pytest.raises(ValueError, match="images must be finite"):
            model.predict(recording.images * np.nan)
        for wrong in (2, -1):
            with pytest.raises(ValueError, match="recording must be an integer >= 0 and <= 1"):
                model.predict(recording.images, recording=wrong)

    def test_predictions_of_a_module_in_training_mode(self, recording):
        """As of any other: batch norm and places are not drawn."""
        model = EncodingModel(tiny_core(), "gaussian", **TINY).fit(recording, max_steps=2)
        expected = model.predict(recording.images)
        model.module_.train()
        np.testing.assert_array_equal(model.predict(recording.images), expected)
        assert model.module_.training
