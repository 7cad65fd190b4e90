"""ECON and its rival: what its equations say, what training may touch, files, resuming."""

import signal
import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("lightning", reason="needs the torch extra")

from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence  # noqa: E402

from fastvis._training import Batches  # noqa: E402
from fastvis.scenes import metrics  # noqa: E402
from fastvis.scenes.econ import ECON, MONet, random_configurations  # noqa: E402
from fastvis.scenes.econ.model import CERTAIN, Competition, Part  # noqa: E402
from fastvis.scenes.econ.objective import appearance_loss, latent_kl, region_kl  # noqa: E402
from fastvis.scenes.econ.training import as_network_input  # noqa: E402
from fastvis.scenes.econ.warmup import color_regions, random_scope  # noqa: E402

TINY_NETWORKS = dict(
    latent_dim=2, n_layers=2, n_features=4, attention_channels=(4, 4, 4), learning_rate=3e-3,
    batch_size=4, validate_every=2, rng=0,
)  # fmt: skip


def paint(n, size=16, seed=0):
    """Sprites: a red disk, a green square and a blue triangle on a gray background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] + 0.5
    radius = 0.2 * size
    images = np.empty((n, size, size, 3), np.uint8)
    shapes, order = np.zeros((n, 3, size, size), bool), np.empty((n, 3), int)
    for i in range(n):
        images[i] = rng.integers(0, 128, 3)
        order[i] = rng.permutation(3)
        for k in order[i]:
            cy, cx = rng.uniform(radius, size - radius, 2)
            dy, dx = y - cy, x - cx
            shapes[i, k] = (
                dy**2 + dx**2 <= radius**2,
                np.maximum(abs(dy), abs(dx)) <= 0.9 * radius,
                (abs(dy) <= radius) & (abs(dx) <= (dy + radius) / 2),
            )[k]
            images[i][shapes[i, k]] = np.eye(3)[k] * 255
    return images, shapes, order


@pytest.fixture(scope="module")
def images():
    return paint(24)[0]


@pytest.fixture(scope="module")
def model(images):
    return ECON(3, 4, **TINY_NETWORKS).fit(images, max_steps=4)


def weights_of(model):
    return {k: v.clone() for k, v in model.module_.state_dict().items()}


def assert_same_weights(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=tolerance, atol=tolerance)


class TestObjective:
    def test_appearance_loss_is_a_normal_density_without_its_constant(self):
        images, means = torch.rand(5, 3, 4, 6), torch.rand(5, 3, 4, 6)
        region = torch.randint(2, (5, 1, 4, 6)).float()
        normal = Normal(means, 0.3)
        missing = normal.log_prob(means) - normal.log_prob(images)
        expected = (region * missing).sum((1, 2, 3))
        torch.testing.assert_close(appearance_loss(images, region, means, 0.3), expected)

    def test_latent_kl(self):
        mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
        posterior = Normal(mean, (0.5 * log_variance).exp())
        expected = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
        torch.testing.assert_close(latent_kl(mean, log_variance), expected)

    def test_region_kl(self):
        scope = torch.rand(5, 1, 4, 6, dtype=torch.float64)
        attention, shape = torch.randn(2, 5, 1, 4, 6, dtype=torch.float64)
        region = Bernoulli(scope * torch.sigmoid(attention))
        painted = Bernoulli(scope * torch.sigmoid(shape))
        expected = kl_divergence(region, painted).sum((1, 2, 3))
        torch.testing.assert_close(region_kl(scope, attention, shape), expected)

    def test_shape_is_free_outside_the_scope(self):
        scope = torch.zeros(2, 1, 4, 4)
        shape = torch.linspace(-30, 30, 16).expand(2, -1).reshape(2, 1, 4, 4).requires_grad_()
        loss = region_kl(scope, torch.randn(2, 1, 4, 4), shape)
        loss.sum().backward()
        assert loss.tolist() == pytest.approx([0, 0], abs=1e-9)
        assert shape.grad.abs().max() == 0

    def test_an_empty_region_costs_nothing(self):
        """Erratum 13: what the competition must not let win."""
        scope = torch.ones(1, 1, 8, 8)
        empty = torch.full_like(scope, -CERTAIN)
        assert region_kl(scope, empty, empty).item() < 1e-3

    def test_finite_with_gradients_at_the_extremes(self):
        scope = torch.tensor([0.0, 1e-30, 0.5, 1.0]).view(1, 1, 2, 2)
        for attention in (torch.inf, 90.0, -90.0):
            for value in (90.0, -90.0):
                shape = torch.full_like(scope, value).requires_grad_()
                region_kl(scope, torch.full_like(scope, attention), shape).sum().backward()
                assert torch.isfinite(shape.grad).all()


class TestCompetition:
    # Two images in columns, three experts in rows.
    APPEARANCE = torch.tensor([[1.0, 9.0], [5.0, 1.0], [0.0, 0.0]])
    REGION = torch.tensor([[3.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    SIZES = torch.tensor([[0.2, 0.2], [0.2, 0.2], [0.0, 0.0]])

    def winners(self, weight, temperature=0.0, least=0.01, sizes=SIZES, **kwargs):
        competition = Competition(weight, temperature, least)
        return competition.winners(self.APPEARANCE, self.REGION, sizes, **kwargs)

    def test_smallest_sum_wins_among_those_with_a_region(self):
        assert self.winners(1.0).tolist() == [0, 1]

    def test_regions_alone(self):
        assert self.winners(0.0).tolist() == [1, 0]

    def test_an_empty_expert_wins_only_among_empty_ones(self):
        assert self.winners(1.0, sizes=torch.zeros(3, 2)).tolist() == [2, 2]
        assert self.winners(1.0, least=0.0).tolist() == [2, 2]

    def test_probabilities_are_a_softmax_of_negative_costs(self):
        """Erratum 8: not in proportion to the costs."""
        generator = torch.Generator().manual_seed(0)
        counts = np.zeros(3)
        for _ in range(4000):
            winner = self.winners(1.0, 2.0, least=0.0, generator=generator)[0]
            counts[winner] += 1
        costs = (self.APPEARANCE + self.REGION)[:, 0]
        expected = torch.softmax(-costs / 2.0, dim=0).numpy()
        # Four standard deviations of a share of 4,000.
        np.testing.assert_allclose(counts / 4000, expected, atol=4 * 0.5 / np.sqrt(4000))

    def test_names_of_competitions(self):
        """By (10) + (12), or by (12) alone (section 5.2)."""
        for competition, expected in (("reconstruction", [0, 1]), ("region", [1, 0])):
            model = ECON(**TINY_NETWORKS, competition=competition, temperature=0)
            fights = model._seeded_module((16, 16), 0).competition
            winners = fights.winners(self.APPEARANCE, self.REGION, self.SIZES)
            assert winners.tolist() == expected

    def test_a_faint_region_is_none(self, monkeypatch):
        """A region counts where it takes most of a pixel; the mean over pixels would mislead."""
        module = ECON(2, 2, **TINY_NETWORKS, least_region=0.1)._seeded_module((16, 16), 0)
        faint = torch.full((1, 1, 16, 16), 0.3)
        small = torch.zeros(1, 1, 16, 16)
        small[..., :2] = 1  # an eighth of the pixels
        parts = [  # the faint one costs less
            Part(region, 1 - region, None, None, None, cost, cost, cost)
            for region, cost in ((faint, torch.zeros(1)), (small, torch.ones(1)))
        ]
        monkeypatch.setattr(module, "explain", lambda k, *args: parts[k])
        competition = replace(module.competition, temperature=0)
        scope, noise = torch.ones(1, 1, 16, 16), torch.zeros(2, 1, 2)
        assert module._compete(faint, scope, noise, None, competition, None).tolist() == [1]

    def test_the_smallest_cost_wins_in_validation(self, images):
        x = as_network_input(torch.from_numpy(images))
        modules = [
            ECON(3, 3, **TINY_NETWORKS, temperature=t)._seeded_module((16, 16), 0) for t in (0, 1e9)
        ]
        for step, same in ((None, True), (0, False)):
            one, other = (m.loss(x, None, step, torch.Generator().manual_seed(0)) for m in modules)
            assert torch.equal(one, other) == same

    def test_weights_of_the_objective(self, images):
        """(13): beta weighs (11), gamma weighs (12)."""
        x = as_network_input(torch.from_numpy(images))
        module = ECON(3, 3, **TINY_NETWORKS, beta=0.3, gamma=7.0)._seeded_module((16, 16), 0)
        loss = module.loss(x, None, None, torch.Generator().manual_seed(0))
        competition = replace(module.competition, temperature=0)
        generator = torch.Generator().manual_seed(0)
        expected = sum(
            part.appearance_loss + 0.3 * part.latent_loss + 7.0 * part.region_loss
            for *_, part in module.steps(x, 3, competition, None, generator)
        )
        torch.testing.assert_close(loss, expected)

    def test_gradients_reach_the_winner_only(self, model, images):
        module = model.module_
        x = as_network_input(torch.from_numpy(images[:1]))
        generator = torch.Generator().manual_seed(0)
        competition = replace(module.competition, temperature=0)
        module.zero_grad()
        steps = list(module.steps(x, 2, competition, generator=generator))
        sum(part.region_loss.sum() + part.appearance_loss.sum() for *_, part in steps).backward()
        winners = {int(winner) for winner, *_ in steps}
        assert len(winners) < len(module.experts)
        for k, expert in enumerate(module.experts):
            touched = any(p.grad is not None and p.grad.any() for p in expert.parameters())
            assert touched == (k in winners)
        module.zero_grad(set_to_none=True)

    def test_later_steps_teach_the_attention_of_earlier_ones(self, model, images):
        """Else an attention that takes nothing would be best."""
        module = model.module_
        x = as_network_input(torch.from_numpy(images[:4]))
        (_, _, first), (_, _, last) = module.steps(x, 2, module.competition.__class__(1, 0, 0))
        module.zero_grad()
        last.appearance_loss.sum().backward()
        assert any(expert.attention.out.weight.grad is not None for expert in module.experts)
        module.zero_grad(set_to_none=True)


class TestDecomposition:
    @pytest.mark.parametrize("size", [32, 40, (64, 48)])
    def test_regions_sum_to_one_and_scopes_follow(self, size):
        height, width = np.broadcast_to(size, 2)
        pictures = np.random.default_rng(0).random((3, height, width, 3))
        parts = ECON(3, 4, **TINY_NETWORKS).fit(pictures, max_steps=1).decompose(pictures)
        assert parts.region.shape == parts.shape.shape == parts.scope.shape == (3, 4, height, width)
        assert parts.appearance.shape == (3, 4, height, width, 3)
        assert parts.winner.shape == (3, 4)
        assert parts.labels.shape == (3, height, width)
        np.testing.assert_allclose(parts.region.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(parts.scope[:, 0], 1)
        left = parts.scope[:, :-1] - parts.region[:, :-1]
        np.testing.assert_allclose(parts.scope[:, 1:], left, atol=1e-6)
        np.testing.assert_array_equal(parts.region[:, -1], parts.scope[:, -1])

    def test_same_for_any_batch_size(self, model, images):
        one, other = model.decompose(images, batch_size=5), model.decompose(images, batch_size=24)
        np.testing.assert_array_equal(one.winner, other.winner)
        np.testing.assert_allclose(one.region, other.region, atol=1e-5)

    def test_spare_steps(self, model, images):
        parts = model.decompose(images, n_steps=6)
        assert parts.region.shape[1] == 6
        np.testing.assert_allclose(parts.region.sum(axis=1), 1, atol=1e-5)

    def test_floats_as_bytes(self, model, images):
        one, other = model.decompose(images), model.decompose(images / 255)
        np.testing.assert_allclose(one.region, other.region, atol=1e-4)

    def test_order_and_experts(self, model, images):
        parts = model.decompose(images)
        for order, labels in zip(parts.order, parts.labels):
            seen = np.unique(labels)
            assert order[: len(seen)].tolist() == seen[::-1].tolist()
            assert (order[len(seen) :] == -1).all()
        # Objects that are the model's own labels are explained by the winners of these steps.
        experts = parts.experts_of(parts.labels + 1, 4)
        hard = replace(parts, region=np.eye(4)[parts.labels].transpose(0, 3, 1, 2))
        experts = hard.experts_of(parts.labels + 1, 4)
        seen = (parts.labels[:, None] == np.arange(4)[:, None, None]).any(axis=(2, 3))
        np.testing.assert_array_equal(experts, np.where(seen, parts.winner, -1))

    def test_metrics_take_it(self, model):
        pictures, shapes, order = paint(6, seed=1)
        parts = model.decompose(pictures)
        accuracy = metrics.depth_order_accuracy(shapes, order, parts.shape, parts.order)
        assert accuracy.shape == (6,)

    def test_image_is_the_sum_of_layers(self, model, images):
        parts = model.decompose(images)
        expected = (parts.region[..., None] * parts.appearance).sum(axis=1)
        np.testing.assert_allclose(parts.image, expected, atol=1e-5)


class TestSampling:
    def test_layers_are_painted_over_each_other(self, model):
        scenes = model.sample([0, 2, 1], n=7, rng=0)
        assert scenes.image.shape == (7, 16, 16, 3)
        assert scenes.shapes.shape == scenes.regions.shape == (7, 3, 16, 16)
        np.testing.assert_array_equal(scenes.regions.sum(axis=1), 1)
        canvas = np.zeros((7, 16, 16, 3), np.float32)
        for t in range(3):  # the painter's algorithm, section 2
            visible = scenes.shapes[:, t, ..., None]
            canvas = np.where(visible, scenes.appearances[:, t], canvas)
        np.testing.assert_allclose(scenes.image, canvas, atol=1e-6)
        np.testing.assert_array_equal(scenes.image, model.sample([0, 2, 1], n=7, rng=0).image)

    def test_experts_of_each_scene(self, model):
        experts = [[0, 1], [2, 2], [0, 0]]
        assert model.sample(experts, rng=0).experts.tolist() == experts

    def test_like_images(self, model, images):
        """Latents have the mean and the covariance of those found in images."""
        module, x = model.module_, as_network_input(torch.from_numpy(images))
        found = [[], [], []]
        competition = replace(module.competition, temperature=0)
        with torch.no_grad():
            for winner, _, part in module.steps(x, 4, competition):
                for i, k in enumerate(winner.tolist()):
                    if part.region[i].max() > 0.5:
                        latents = module.experts[k].encoder(x[i : i + 1], part.region[i : i + 1])
                        found[k].append(latents[0][0].numpy())
        k = int(np.argmax([len(latents) for latents in found]))
        latents = np.array(found[k])
        mean, factor = model._latent_moments(images, [k])[k]
        np.testing.assert_allclose(mean, latents.mean(0), atol=1e-4)
        np.testing.assert_allclose(factor @ factor.T, np.cov(latents.T), atol=1e-4)
        drawn = np.random.default_rng(0).integers(2**31)  # what sample makes of rng=0
        noise = torch.randn(30, 2, generator=torch.Generator().manual_seed(int(drawn)))
        with torch.no_grad():
            expected, _ = module.experts[k].decoder(mean + noise @ factor.T)
        scenes = model.sample([k], n=30, rng=0, like=images)
        np.testing.assert_allclose(scenes.image, expected.permute(0, 2, 3, 1), atol=1e-5)

    def test_like_images_that_hold_too_little(self, model, images):
        parts = model.decompose(images[:1])
        unused = [k for k in range(3) if np.count_nonzero(parts.winner == k) <= 2][0]
        with pytest.raises(ValueError, match=f"like must be images in which expert {unused} "):
            model.sample([unused], like=images[:1])
        with pytest.raises(ValueError, match="like must have 16 x 16 pixels"):
            model.sample([0], like=np.zeros((4, 8, 8, 3)))

    def test_bad_experts(self, model):
        with pytest.raises(ValueError, match="experts must be in 0 to 2; got 0 to 3"):
            model.sample([0, 3])
        with pytest.raises(TypeError, match="experts must be a sequence of ints"):
            model.sample([0.5])
        with pytest.raises(ValueError, match="n must be 2"):
            model.sample([[0, 1], [1, 2]], n=3)


class TestTraining:
    def test_smoke_training_lowers_the_loss(self):
        pictures, held_out = paint(300)[0], paint(20, seed=1)[0]
        model = ECON.preset("smoke", rng=0).fit(pictures, validation=held_out, max_steps=40)
        assert model.stopped_by_ == "max_steps"
        assert model.losses_[-1] < 0.9 * model.losses_[0]
        assert model.steps_.tolist() == list(range(10, 41, 10))

    def test_resumed_is_as_never_interrupted(self, images, tmp_path):
        whole = ECON(3, 3, **TINY_NETWORKS, warmup_steps=3).fit(images, max_steps=6)
        half = ECON(3, 3, **TINY_NETWORKS, warmup_steps=3)
        half.fit(images, max_steps=4, checkpoints=tmp_path)
        state = torch.load(tmp_path / "last.ckpt", weights_only=True)
        assert state["global_step"] == 4
        half.set_params(rng=1)  # must not matter: the seed is in the checkpoint
        half.fit(images, max_steps=6, checkpoints=tmp_path, resume=True)
        assert_same_weights(weights_of(whole), weights_of(half), 1e-6)  # rounding over threads
        np.testing.assert_allclose(whole.losses_, half.losses_, rtol=1e-5)

    def test_resumed_between_validations(self, images, tmp_path):
        """A checkpoint is where a run can go on: after a validation."""
        whole = ECON(2, 2, **TINY_NETWORKS).fit(images, max_steps=6)
        part = ECON(2, 2, **TINY_NETWORKS)
        part.fit(images, max_steps=3, checkpoints=tmp_path)
        assert part.steps_.tolist() == [2, 3]
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 2
        part.fit(images, max_steps=6, checkpoints=tmp_path, resume=True)
        assert part.steps_.tolist() == whole.steps_.tolist() == [2, 4, 6]
        assert_same_weights(weights_of(whole), weights_of(part), 1e-6)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(beta=0.6), "beta must be 0.52, as in .*last.ckpt.*; got 0.6"),
            (dict(competition="region"), "competition must be 'reconstruction', as in"),
            (dict(batch_size=5), "batch_size must be 4"),
            (dict(n_features=8), "n_features must be 4"),
            (dict(attention_channels=(4, 4)), r"attention_channels must be \(4, 4, 4\)"),
        ],
    )
    def test_resume_with_other_parameters(self, changes, message, images, tmp_path):
        model = ECON(2, 2, **TINY_NETWORKS).fit(images, max_steps=2, checkpoints=tmp_path)
        weights = weights_of(model)
        with pytest.raises(ValueError, match=message):
            model.set_params(**changes).fit(images, checkpoints=tmp_path, resume=True)
        assert_same_weights(weights, weights_of(model))

    def test_resume_of_something_else(self, images, tmp_path):
        model = ECON(2, 2, **TINY_NETWORKS).fit(images, max_steps=2, checkpoints=tmp_path)
        again = dict(checkpoints=tmp_path, resume=True, max_steps=4)
        wide = np.zeros((4, 16, 24, 3), np.uint8)
        with pytest.raises(ValueError, match="size must be .16, 16., as in .*last.ckpt"):
            model.fit(wide, **again)
        with pytest.raises(ValueError, match="class must be 'ECON', as in .*last.ckpt"):
            MONet(2, **TINY_NETWORKS).fit(images, **again)
        last = tmp_path / "last.ckpt"
        content = last.read_bytes()
        for damaged in (content[:-100], content[:50], b"", b"no checkpoint"):
            last.write_bytes(damaged)
            with pytest.raises(ValueError, match="last.ckpt.* cannot be read"):
                model.fit(images, **again)
        last.write_bytes(content)
        checkpoint = torch.load(last, weights_only=True)
        del checkpoint["fastvis"]["model"]  # as older ones, which still can be resumed
        torch.save(checkpoint, last)
        with pytest.raises(ValueError, match="last.ckpt.* holds other networks"):
            ECON(3, 2, **TINY_NETWORKS).fit(images, **again)
        with pytest.raises(ValueError, match="last.ckpt.* holds other networks"):
            model.fit(wide, **again)
        model.set_params(beta=0.6, progress=False).fit(images, **again)
        assert model.steps_.tolist() == [2, 4]
        del checkpoint["fastvis"]
        torch.save(checkpoint, last)
        with pytest.raises(ValueError, match="last.ckpt.* cannot be read"):
            model.fit(images, **again)

    def test_schedule_ends_training(self, images):
        model = ECON(2, 2, **TINY_NETWORKS | dict(learning_rate=1e-12), patience=1, n_drops=3)
        model.fit(images)
        assert model.stopped_by_ == "schedule"
        np.testing.assert_allclose(model.learning_rates_[-1], 1e-12 / 10)

    def test_drops_after_patience(self, images):
        parameters = TINY_NETWORKS | dict(learning_rate=1e-30)  # no validation improves
        model = ECON(2, 2, **parameters, patience=2, n_drops=2).fit(images)
        np.testing.assert_allclose(model.learning_rates_, 1e-30 / np.sqrt([1, 1, 1, 10, 10]))

    def test_callback_ends_training(self, images):
        seen = []

        def callback(step, loss):
            seen.append((step, loss))
            return len(seen) == 2

        model = ECON(2, 2, **TINY_NETWORKS, callback=callback).fit(images, max_steps=20)
        assert [step for step, _ in seen] == [2, 4]
        assert model.stopped_by_ == "callback"

    def test_interrupt_keeps_what_was_learned(self, images):
        def interrupt(step, loss):
            raise KeyboardInterrupt

        handler = signal.getsignal(signal.SIGINT)
        model = ECON(2, 2, **TINY_NETWORKS, callback=interrupt).fit(images, max_steps=20)
        assert model.stopped_by_ == "interrupted"
        assert len(model.decompose(images)) == len(images)
        assert signal.getsignal(signal.SIGINT) is handler

    @pytest.mark.parametrize("kind", [ECON, MONet])
    def test_divergence_ends_training(self, kind, images, tmp_path):
        seen = []
        model = kind(2, **TINY_NETWORKS, callback=lambda step, loss: seen.append(step))
        model.fit(images, max_steps=2, checkpoints=tmp_path)
        last = tmp_path / "last.ckpt"
        checkpoint = torch.load(last, weights_only=True)
        for state in checkpoint["optimizer_states"]:
            state["param_groups"][0]["lr"] = 1e20
        torch.save(checkpoint, last)
        with pytest.warns(ConvergenceWarning, match="not finite at step 4.* learning_rate"):
            model.fit(images, max_steps=20, checkpoints=tmp_path, resume=True)
        assert model.stopped_by_ == "diverged"
        assert seen == model.steps_.tolist() == [2, 4]
        assert np.isfinite(model.losses_).tolist() == [True, False]
        kept = torch.load(last, weights_only=True)
        assert kept["global_step"] == 2
        assert_same_weights(kept["state_dict"], checkpoint["state_dict"])

    def test_divergence_before_the_first_validation(self, images):
        parameters = TINY_NETWORKS | dict(learning_rate=1e20, validate_every=50)
        with pytest.warns(ConvergenceWarning, match="not finite at step 3"):
            model = ECON(2, 2, **parameters, warmup_steps=100).fit(images, max_steps=3)
        assert model.stopped_by_ == "diverged"

    def test_trainer_of_the_user(self, images):
        import lightning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trainer = lightning.Trainer(
                max_steps=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False, accelerator="cpu",
            )  # fmt: skip
            model = ECON(2, 2, **TINY_NETWORKS).fit(images, trainer=trainer)
        assert model.stopped_by_ == "max_steps"

    def test_validation_at_the_end(self, images):
        seen = []
        parameters = TINY_NETWORKS | dict(validate_every=50)
        model = ECON(2, 2, **parameters, callback=lambda *args: seen.append(args))
        held_out = paint(150, seed=1)[0]  # two chunks
        model.fit(images, validation=held_out, max_steps=3)
        assert model.stopped_by_ == "max_steps"
        assert model.steps_.tolist() == [3]
        assert seen == [(3, model.losses_[0])]
        np.testing.assert_allclose(model.learning_rates_, [3e-3])
        every = ECON(2, 2, **TINY_NETWORKS | dict(validate_every=3))
        every.fit(images, validation=held_out, max_steps=3)
        np.testing.assert_allclose(model.losses_, every.losses_, rtol=1e-5)

    def test_drops_with_given_regions(self, images):
        """There is no warm-up to wait for."""
        regions = np.zeros((24, 2, 16, 16), bool)
        regions[:, 0, :8], regions[:, 1, 8:] = True, True
        parameters = TINY_NETWORKS | dict(learning_rate=1e-30, warmup_steps=100)
        model = ECON(1, 2, **parameters, patience=1, n_drops=1)
        model.fit(images, regions=regions, max_steps=10)
        assert model.stopped_by_ == "schedule"
        assert model.steps_.tolist() == [2, 4]

    def test_given_regions_replace_attention(self):
        """Fig. 5: one expert, true masks; the attention learns nothing."""
        pictures, shapes, order = paint(24)
        regions = np.zeros((24, 4, 16, 16), bool)
        left = np.ones((24, 16, 16), bool)
        for t in range(3):
            shape = shapes[np.arange(24), order[:, 2 - t]]
            regions[:, t] = shape & left
            left &= ~shape
        regions[:, 3] = left
        model = ECON(1, 4, **TINY_NETWORKS)
        start = model._seeded_module((16, 16), int(np.random.default_rng(0).integers(2**31)))
        model.fit(pictures, regions=regions, max_steps=3)
        before, after = start.state_dict(), weights_of(model)
        changed = {key for key in before if not torch.equal(before[key], after[key])}
        assert changed == {key for key in before if "encoder" in key or "decoder" in key}
        parts = model.decompose(pictures, regions=regions, batch_size=10)
        np.testing.assert_allclose(parts.region, regions, atol=1e-6)
        with pytest.raises(ValueError, match=r"regions must be bool of shape \(24, 5, 16, 16\)"):
            model.decompose(pictures, n_steps=5, regions=regions)

    def test_warmup_teaches_attention_the_nearest_color(self):
        pictures, shapes, _ = paint(200, seed=3)
        parameters = TINY_NETWORKS | dict(batch_size=16, validate_every=50, learning_rate=1e-2)
        model = ECON(4, 4, **parameters, warmup_steps=50).fit(pictures, max_steps=50)
        x = as_network_input(torch.from_numpy(pictures))
        with torch.no_grad():
            logits = [e.attention(x, torch.ones_like(x[:, :1])) for e in model.module_.experts]
        best = torch.cat(logits, dim=1).argmax(1).numpy()
        red = (pictures == [255, 0, 0]).all(axis=3)
        share = np.bincount(best[red], minlength=4).max() / red.sum()
        assert share > 0.9

    def test_warmup_regions(self):
        pictures, shapes, _ = paint(20)
        x = as_network_input(torch.from_numpy(pictures))
        colors = torch.tensor([[0.25] * 3, [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        regions = color_regions(x, colors)
        assert regions.shape == (4, 20, 1, 16, 16)
        assert (regions.sum(0) == 1).all()
        np.testing.assert_array_equal(regions[0, :, 0] == 0, shapes.any(axis=1))
        scope = random_scope(regions, torch.Generator().manual_seed(0))
        left = (regions * scope).sum((2, 3, 4))  # each color is left as a whole, or is gone
        assert ((left == 0) | (left == regions.sum((2, 3, 4)))).all()
        assert (scope.sum((1, 2, 3)) > 0).all()

    def test_batches_follow_from_seed_and_step(self):
        first, again, later, seed = (
            np.array(list(Batches(10, 4, 5, seed, lambda step=step: step)))
            for seed, step in ((3, 7), (3, 7), (3, 12), (4, 7))
        )
        np.testing.assert_array_equal(first, again)
        assert first.shape == (5, 4)
        assert sorted(first.ravel()[:10]) == list(range(10))
        assert (first != later).any()
        assert (first != seed).any()


class TestFiles:
    @pytest.mark.parametrize("kind", ["econ", "monet"])
    def test_round_trip(self, kind, model, images, tmp_path):
        path = tmp_path / "model"
        if kind == "monet":
            model = MONet(2, **TINY_NETWORKS).fit(images, max_steps=2)
        model.save(path)
        loaded = type(model).load(path)
        assert_same_weights(weights_of(model), weights_of(loaded))
        assert loaded.get_params() | {"rng": 0} == model.get_params()
        one, other = model.decompose(images), loaded.decompose(images)
        np.testing.assert_array_equal(one.region, other.region)

    @pytest.mark.parametrize("kind", [ECON, MONet])
    def test_numpy_scalars(self, kind, images, tmp_path):
        parameters = TINY_NETWORKS | dict(
            latent_dim=np.int64(2), beta=np.float32(0.5), attention_channels=(np.int64(4),) * 3
        )
        model = kind(n_steps=np.int16(2), **parameters).fit(images, max_steps=np.int64(1))
        model.save(tmp_path / "model")
        loaded = kind.load(tmp_path / "model")
        assert loaded.get_params() | {"rng": 0} == model.get_params()
        assert_same_weights(weights_of(model), weights_of(loaded))

    @pytest.mark.parametrize("kind", [ECON, MONet])
    def test_parameters_changed_after_the_fit(self, kind, images, tmp_path):
        """What is fitted stays: parameters are for the next fit."""
        model = kind(n_steps=3, **TINY_NETWORKS).fit(images, max_steps=1)
        before = model.get_params(), model.decompose(images)
        draw = (lambda: model.sample([1, 3], 2, rng=0)) if kind is ECON else (
            lambda: model.sample(2, rng=0)
        )  # fmt: skip
        image = draw().image
        model.set_params(n_steps=2, latent_dim=5, n_features=8, beta=3.0, batch_size=7)
        if kind is ECON:
            model.n_experts = 9
            with pytest.raises(ValueError, match="experts must be in 0 to 3; got 5"):
                model.sample([5])
            like = np.concatenate([images] * 4)
            assert len(model.sample(model.decompose(like).winner[0], 2, like=like).image) == 2
        np.testing.assert_array_equal(draw().image, image)
        np.testing.assert_array_equal(model.decompose(images).region, before[1].region)
        model.save(tmp_path / "model")
        loaded = kind.load(tmp_path / "model")
        assert loaded.get_params() | {"rng": 0} == before[0]
        np.testing.assert_array_equal(loaded.decompose(images).region, before[1].region)
        loaded.set_params(n_steps=1).save(tmp_path / "model")
        assert kind.load(tmp_path / "model").n_steps == 3
        assert model.fit(images, max_steps=1).decompose(images).region.shape[1] == 2

    def test_folders_are_no_targets(self, model, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no folder .*no"):
            model.save(tmp_path / "no" / "model")
        with pytest.raises(IsADirectoryError, match="is a folder. Name a file in it"):
            model.save(tmp_path)
        with pytest.raises(IsADirectoryError, match="is a folder. Name a file in it"):
            model.save(".")
        assert not list(tmp_path.iterdir())

    def test_damaged_and_wrong_files(self, model, tmp_path):
        path = tmp_path / "model"
        model.save(path)
        content = path.read_bytes()
        for damaged in (content[:-100], content[:50], b"", b"no model"):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match="path must be a file written by ECON.save"):
                ECON.load(path)
        path.write_bytes(content)
        with pytest.raises(ValueError, match="it holds a ECON"):
            MONet.load(path)
        with pytest.raises(FileNotFoundError):
            ECON.load(tmp_path / "none")

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


class TestInput:
    @pytest.mark.parametrize(
        ("pictures", "message"),
        [
            (np.zeros((4, 16, 16), np.uint8), "images must have shape"),
            (np.zeros((4, 16, 16, 1)), "images must have shape"),
            (np.full((4, 16, 16, 3), 2.0), "images must have values in"),
            (np.full((4, 16, 16, 3), np.nan), "images must be finite"),
            (np.zeros((1, 16, 16, 3)), "images must be at least 2"),
            (np.zeros((4, 4, 16, 3)), "images must have at least 8 x 8 pixels"),
            (np.zeros((0, 16, 16, 3)), "images must"),
        ],
    )
    def test_images(self, pictures, message):
        with pytest.raises(ValueError, match=message):
            ECON(2, 2, **TINY_NETWORKS).fit(pictures, max_steps=1)

    @pytest.mark.parametrize(
        ("changes", "error", "message"),
        [
            (dict(n_experts=0), ValueError, "n_experts must be an integer >= 1; got 0"),
            (dict(n_steps=1.5), TypeError, "n_steps must be an integer"),
            (dict(attention_channels=()), ValueError, "attention_channels must be a tuple"),
            (dict(sigma_x=0), ValueError, "sigma_x must be a finite number > 0"),
            (dict(gamma=-1), ValueError, "gamma must be a finite number >= 0"),
            (dict(competition="color"), ValueError, "competition must be one of"),
            (dict(competition=-1), ValueError, "competition must be a finite number >= 0"),
            (dict(least_region=2), ValueError, "least_region"),
            (dict(callback=5), TypeError, "callback must be callable or None; got 5"),
            (dict(patience=0), ValueError, "patience must be an integer >= 1"),
        ],
    )
    def test_parameters(self, changes, error, message, images):
        with pytest.raises(error, match=message):
            ECON(**TINY_NETWORKS | changes).fit(images, max_steps=1)

    def test_other_arguments(self, model, images, tmp_path):
        fresh = ECON(2, 2, **TINY_NETWORKS)
        with pytest.raises(ValueError, match="checkpoints must name a folder"):
            fresh.fit(images, resume=True)
        with pytest.raises(ValueError, match="trainer brings its own"):
            fresh.fit(images, trainer=object(), max_steps=1)
        with pytest.raises(ValueError, match="regions must be bool of shape"):
            fresh.fit(images, regions=np.zeros((24, 2, 16, 16)))
        with pytest.raises(ValueError, match="images must have 16 x 16 pixels"):
            model.decompose(np.zeros((1, 32, 32, 3)))
        with pytest.raises(ValueError, match="labels must be integers"):
            model.decompose(images).experts_of(np.zeros((1, 2, 2), int))
        with pytest.raises(ValueError, match="not fitted"):
            fresh.decompose(images)
        with pytest.raises(ValueError, match="name must be one of"):
            ECON.preset("large")

    def test_presets_are_parameters(self):
        for colors in ("by_class", "random"):
            for name in ("smoke", "cpu", "gpu"):
                ECON.preset(name, colors)._check_parameters()
            for configuration in random_configurations(5, colors, rng=0):
                ECON(**configuration)._check_parameters()


class TestMONet:
    def test_frame(self, images):
        model = MONet(3, **TINY_NETWORKS).fit(images, max_steps=4)
        parts = model.decompose(images)
        np.testing.assert_allclose(parts.region.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(parts.shape.sum(axis=1), 1, atol=1e-5)
        assert (parts.winner == 0).all()
        samples = model.sample(5, rng=0)
        assert samples.image.shape == (5, 16, 16, 3)
        np.testing.assert_allclose(samples.region.sum(axis=1), 1, atol=1e-5)

    def test_loss_is_a_mixture(self, images):
        model = MONet(2, **TINY_NETWORKS, beta=0, gamma=0).fit(images, max_steps=1)
        module, x = model.module_, as_network_input(torch.from_numpy(images))
        loss = module.loss(x, None, None, torch.Generator().manual_seed(0))
        parts = list(module._parts(x, 2, torch.Generator().manual_seed(0)))
        density = sum(
            region[:, 0] * Normal(means, sigma).log_prob(x).sum(1).exp()
            for (_, region, means, *_), sigma in zip(parts, (0.09, 0.11))
        )
        torch.testing.assert_close(loss, -density.log().sum((1, 2)), rtol=1e-4, atol=1e-2)

    def test_divergences_are_weighed(self, images):
        x = as_network_input(torch.from_numpy(images))
        plain, model = (MONet(3, **TINY_NETWORKS, beta=b, gamma=g) for b, g in ((0, 0), (1e3, 7)))
        plain, module = (m._seeded_module((16, 16), 0) for m in (plain, model))
        fit, loss = (
            m.loss(x, None, None, torch.Generator().manual_seed(0)) for m in (plain, module)
        )
        parts = list(module._parts(x, 3, torch.Generator().manual_seed(0)))
        _, regions, _, logits, latents = zip(*parts)
        found, painted = (torch.stack(y, dim=-1) for y in (regions, logits))
        kl = kl_divergence(Categorical(probs=found), Categorical(logits=painted))
        terms = 1e3 * sum(latents), 7 * kl.sum((1, 2, 3))
        assert min(term.min() for term in terms) > 1  # the losses are rounded at 1e-3
        torch.testing.assert_close(loss - fit, sum(terms), rtol=1e-3, atol=1e-2)
