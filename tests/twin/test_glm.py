"""Poisson GLMs: against scikit-learn, what they find, cross-validation, edge cases."""

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor

from fastvis.twin import PoissonGLM, Recording

SIZE = (5, 6)


def recording(rng, n=300, n_neurons=4, strength=0.15):
    images = rng.normal(size=(n, *SIZE)) * 40 + 100
    filters = strength * rng.normal(size=(n_neurons, *SIZE))
    drive = np.tensordot((images - 100) / 40, filters, axes=((1, 2), (1, 2))) - 0.5
    return Recording.from_arrays(images, rng.poisson(np.exp(drive)), rng=0), filters


def pixels(glm, made):
    r, ids = made.of_tier("train")
    return glm.unit_.images(made.images[ids]).reshape(len(ids), -1).astype(float), r.astype(float)


@pytest.mark.parametrize("penalty", [1e-3, 0.1, 5.0])
@pytest.mark.parametrize("n", [300, 30])  # more and fewer trials than pixels
def test_fits_are_those_of_scikit_learn(penalty, n, rng):
    made, _ = recording(rng, n)
    glm = PoissonGLM([penalty], tol=1e-8).fit(made)
    x, r = pixels(glm, made)
    for k in range(made.n_neurons):
        peer = PoissonRegressor(alpha=penalty, tol=1e-9, max_iter=10_000).fit(x, r[:, k])
        np.testing.assert_allclose(glm.weights_[k].ravel(), peer.coef_, atol=2e-5)
        assert glm.biases_[k] == pytest.approx(peer.intercept_, abs=2e-5)
        np.testing.assert_allclose(
            glm.predict(made.images)[:, k],
            peer.predict(glm.unit_.images(made.images).reshape(len(made.images), -1)),
            rtol=1e-3,
        )
    assert glm.n_iter_ < 15


def test_filters_are_found(rng):
    made, filters = recording(rng, 4000)
    glm = PoissonGLM([0.01]).fit(made)
    for found, true in zip(glm.weights_, filters):
        assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.97


def test_penalties_are_chosen_by_held_out_trials(rng):
    """Of each neuron its own; folds as in a plain loop."""
    made, _ = recording(rng, 250, strength=0.1)
    penalties = np.array([0.03, 0.3, 3.0])
    glm = PoissonGLM(penalties, n_folds=4, tol=1e-8, rng=7).fit(made)
    x, r = pixels(glm, made)
    fold = np.random.default_rng(7).permutation(len(x)) % 4
    for i, penalty in enumerate(penalties):
        for k in range(made.n_neurons):
            total = 0.0
            for f in range(4):
                kept, held = fold != f, fold == f
                peer = PoissonRegressor(alpha=penalty, tol=1e-9, max_iter=10_000)
                rate = peer.fit(x[kept], r[kept, k]).predict(x[held])
                total += (r[held, k] * np.log(rate) - rate).sum()
            assert glm.heldout_[i, k] == pytest.approx(total / len(x), abs=1e-5)
    np.testing.assert_array_equal(glm.penalties_, penalties[glm.heldout_.argmax(0)])


def test_default_path_is_the_papers(rng):
    made, _ = recording(rng, 60, n_neurons=2)
    glm = PoissonGLM(n_folds=2, rng=0).fit(made)
    assert glm.heldout_.shape == (48, 2)
    assert (glm.penalties_ >= 0.1).all()
    assert (glm.penalties_ <= 5 + 1e-9).all()


def test_silent_and_constant_neurons(rng):
    made, _ = recording(rng)
    responses = made.responses.copy()
    responses[:, 0], responses[:, 1] = 0, 3
    made = Recording(made.images, responses, made.image_ids, made.tiers)
    glm = PoissonGLM([0.1, 1.0], n_folds=2, rng=0).fit(made)
    predicted = glm.predict(made.images)
    assert np.isfinite(predicted).all()
    np.testing.assert_array_equal(predicted[:, 0], 0)
    np.testing.assert_allclose(predicted[:, 1], 3, rtol=1e-3)
    assert np.isfinite(glm.heldout_).all()


def test_wild_responses_do_not_overflow(rng):
    made, _ = recording(rng, 100)
    responses = made.responses.copy()
    responses[5, 0] = 1e5
    made = Recording(made.images, responses, made.image_ids, made.tiers)
    with np.errstate(all="raise", under="ignore"):
        glm = PoissonGLM([1e-3]).fit(made)
    assert np.isfinite(glm.weights_).all()


def test_errors(rng):
    made, _ = recording(rng, 40)
    with pytest.raises(ValueError, match="penalties must be > 0"):
        PoissonGLM([0.0]).fit(made)
    with pytest.raises(TypeError, match="recording must be a fastvis.twin.Recording"):
        PoissonGLM().fit(made.images)
    with pytest.raises(ValueError, match="n_folds must be"):
        PoissonGLM(n_folds=1).fit(made)
    glm = PoissonGLM([1.0]).fit(made)
    with pytest.raises(ValueError, match="images must be of 5 x 6; got shape"):
        glm.predict(np.zeros((2, 4, 4)))
