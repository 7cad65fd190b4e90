"""Pooled recordings: responses say whose they are and to which trial of which image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvis.twin import (
    PoissonGLM,
    Recording,
    correlation_to_average,
    fev,
    pool_recordings,
    summary_table,
)

SIZE = (4, 5)
N_TRAIN, N_VALIDATION, N_TEST = 12, 4, 5
N_COMMON = N_TRAIN + N_VALIDATION + N_TEST
TIERS = np.repeat(["train", "validation", "test"], [N_TRAIN, N_VALIDATION, N_TEST])
TEST = range(N_TRAIN + N_VALIDATION, N_COMMON)
N_NEURONS = (2, 1, 3)
REPEATS = ([4] * 5, [1, 2, 3, 4, 9], [4, 4, 5, 4, 4])  # of test images, in each recording


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (N_COMMON, *SIZE)).astype(float)


def code(image, trial, neuron):
    return 1000 * image + 10 * trial + neuron


def decode(responses):
    """Images, trials and neurons that responses are of."""
    image, rest = np.divmod(responses.astype(int), 1000)
    return image, *np.divmod(rest, 10)


def shown(images, tiers, repeats, n_neurons, first, rng):
    """A recording of images of its own order, with some that no other has; coded responses."""
    others = rng.integers(0, 256, (3, *SIZE)).astype(float)
    every = np.concatenate([images, others])
    of_image = np.concatenate([repeats, [1, 1, 1]])
    ids = np.repeat(np.arange(len(every)), of_image)
    trial = np.concatenate([np.arange(n) for n in of_image])
    responses = code(ids[:, None], trial[:, None], first + np.arange(n_neurons))
    tiers = np.concatenate([tiers, ["train", "validation", "test"]])[ids]
    order, rows = rng.permutation(len(ids)), rng.permutation(len(every))
    back = np.argsort(rows)
    return Recording(every[rows], responses[order], back[ids[order]], tiers[order])


@pytest.fixture
def recordings(images, rng):
    starts = np.cumsum([0, *N_NEURONS])
    once = np.ones(N_TRAIN + N_VALIDATION, int)
    return [
        shown(images, TIERS, np.concatenate([once, repeats]), n, first, rng)
        for repeats, n, first in zip(REPEATS, N_NEURONS, starts)
    ]


def trials_of(pooled, image, neuron):
    """Trials of a neuron's own that are pooled, of an image."""
    of_image, trial, _ = decode(pooled.responses)
    return trial[of_image[:, neuron] == image, neuron]


def assert_same(a, b):
    for name in ("images", "responses", "image_ids", "tiers"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_responses_are_to_their_images(recordings, images):
    pooled = pool_recordings(recordings, rng=0)
    image, _, neuron = decode(pooled.responses)
    assert set(image.ravel()) == set(range(N_COMMON))
    assert (image == image[:, :1]).all()
    assert (neuron == np.arange(sum(N_NEURONS))).all()
    np.testing.assert_array_equal(pooled.images[pooled.image_ids], images[image[:, 0]])
    np.testing.assert_array_equal(pooled.tiers, TIERS[image[:, 0]])
    assert len(pooled.images) == N_COMMON


def test_repeats_are_own_trials_and_different_where_there_are_enough(recordings):
    pooled = pool_recordings(recordings, rng=0)
    assert pooled.summary()["test_repeats"] == (4, 4)  # 4 is the most frequent of 1, 2, 3, 4, 5, 9
    starts = np.cumsum([0, *N_NEURONS])
    for n_each, first, end in zip(REPEATS, starts, starts[1:]):
        for image, n in zip(TEST, n_each):
            for neuron in range(first, end):
                drawn = trials_of(pooled, image, neuron)
                assert len(drawn) == 4
                times = np.bincount(drawn, minlength=n)
                assert len(times) == n  # no other trials
                assert times.max() - times.min() <= 1
                assert (times.max() == 1) == (n >= 4)
                np.testing.assert_array_equal(drawn, trials_of(pooled, image, first))


@pytest.mark.parametrize("n_repeats", [1, 3, 11])
def test_repeats_are_as_many_as_wanted(recordings, n_repeats):
    pooled = pool_recordings(recordings, n_repeats=n_repeats, rng=0)
    assert pooled.summary()["test_repeats"] == (n_repeats, n_repeats)
    assert pooled.summary()["train_trials"] == N_TRAIN


def test_the_larger_of_numbers_that_are_as_frequent(images, rng):
    repeats = [1] * (N_TRAIN + N_VALIDATION) + [2, 3, 3, 2, 9]
    pooled = pool_recordings([shown(images, TIERS, repeats, 1, 0, rng)], rng=0)
    assert pooled.summary()["test_repeats"] == (3, 3)


def test_all_trials_are_drawn_as_often(recordings):
    """Two of nine trials, 300 times: a fair draw is far from any that favors some."""
    rng, image, neuron = np.random.default_rng(1), TEST[-1], N_NEURONS[0]
    times = np.zeros(9)
    for _ in range(300):
        drawn = trials_of(pool_recordings(recordings, n_repeats=2, rng=rng), image, neuron)
        times += np.bincount(drawn, minlength=9)
    expected = 300 * 2 / 9
    assert ((times - expected) ** 2 / expected).sum() < 26.1  # chi-squared, 8 degrees, p = .001


def test_draws_follow_the_seed(recordings):
    pooled = pool_recordings(recordings, rng=3)
    assert_same(pooled, pool_recordings(recordings, rng=3))
    assert_same(pooled, pool_recordings(recordings, rng=np.random.default_rng(3)))
    other = pool_recordings(recordings, rng=4)
    assert (pooled.responses != other.responses).any()
    np.testing.assert_array_equal(pooled.images, other.images)


def test_scores_of_complete_repeats_are_those_of_the_recordings(images, rng):
    """Where all have all trials, nothing is lost or made up."""
    drive = images[:, 1, :2] / 50
    singles = []
    for _ in range(2):
        ids = rng.permutation(np.concatenate([range(N_TRAIN), np.repeat(range(N_TRAIN, 21), 6)]))
        singles.append(Recording.from_arrays(images, rng.poisson(drive[ids]), ids, validation=0))
    pooled = pool_recordings(singles, rng=0)
    found = fev(*pooled.of_tier("test"))
    expected = [fev(*one.of_tier("test")) for one in singles]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-12)
    predictions = np.tile(pooled.images[:, 1, :2], 2)
    found = correlation_to_average(predictions, *pooled.of_tier("test"))
    expected = [correlation_to_average(images[:, 1, :2], *r.of_tier("test")) for r in singles]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-12)


# What is the same image


def test_training_images_shown_twice(images, rng):
    """In one row or in two; a trial is drawn for each that the other recording has."""
    repeats = np.ones(N_COMMON, int)
    once = shown(images, TIERS, repeats, 1, 0, rng)
    repeats[0] = 3
    twice = shown(images[[*range(N_COMMON), 1]], TIERS[[*range(N_COMMON), 1]],
                  [*repeats, 1], 1, 1, rng)  # fmt: skip
    pooled = pool_recordings([once, twice], rng=0)
    assert pooled.summary()["train_trials"] == N_TRAIN
    pooled = pool_recordings([twice], rng=0)
    assert pooled.summary()["train_trials"] == N_TRAIN + 2 + 1 + 1  # the last its own
    assert pooled.summary()["train_images"] == N_TRAIN + 1
    image, trial, _ = decode(pooled.responses)
    assert sorted(trial[image == 0]) == [0, 1, 2]
    is_first = (pooled.images[pooled.image_ids] == images[1]).all((1, 2))
    assert sorted(image[is_first, 0]) == [1, N_COMMON]


def test_images_of_other_pixels_are_matched_by_ids(recordings, images, rng):
    expected = pool_recordings(recordings, rng=0)
    names, scaled = [], []
    for i, r in enumerate(recordings):
        same = (r.images[:, None] == images).all((2, 3))
        own = [f"own {i} {k}" for k in range(len(r.images))]
        names.append(np.where(same.any(1), np.char.add("n", same.argmax(1).astype(str)), own))
        scaled.append(Recording(r.images * (1 + i), r.responses, r.image_ids, r.tiers))
    with pytest.raises(ValueError, match="images in common; got none of 24, 24, 24. If the same"):
        pool_recordings(scaled)
    assert_same(pool_recordings(scaled, image_ids=names, rng=0), expected)


def test_minus_zero_is_zero():
    images = np.arange(8.0).reshape(2, 2, 2)
    one = Recording(images, [[1], [2]], [0, 1], ["train", "test"])
    images[0, 0, 0] = -0.0
    other = Recording(images, [[3], [4]], [0, 1], ["train", "test"])
    np.testing.assert_array_equal(pool_recordings([one, other]).responses, [[1, 3], [2, 4]])


# Tiers


@pytest.mark.parametrize("tiers", [("train", "test"), ("validation", "test"), ("test", "train")])
def test_images_of_several_tiers_are_left_out(images, tiers, rng):
    """Of two recordings, or of one that has the same image twice."""
    repeats = np.ones(N_COMMON, int)
    mine, theirs = TIERS.copy(), TIERS.copy()
    mine[[0, 20]], theirs[[0, 20]] = tiers[0], tiers[1]
    pair = [shown(images, t, repeats, 1, i, rng) for i, t in enumerate((mine, theirs))]
    with pytest.warns(UserWarning, match="2 of 21 common images are left out") as caught:
        pooled = pool_recordings(pair, rng=0)
    assert caught[0].filename == __file__
    assert set(decode(pooled.responses)[0].ravel()) == set(range(1, 20))
    rows, two = [*range(N_COMMON), 5], [*TIERS, tiers[0]]
    two[5] = tiers[1]
    twice = shown(images[rows], two, [*repeats, 1], 1, 1, rng)
    with pytest.warns(UserWarning, match="1 of 21 common images are left out"):
        pooled = pool_recordings([shown(images, TIERS, repeats, 1, 0, rng), twice], rng=0)
    assert 5 not in decode(pooled.responses)[0]


def test_ids_do_not_hide_that_images_are_the_same():
    """Names of an image in two tiers; of the second recording only."""
    images = np.arange(20.0).reshape(5, 2, 2)
    tiers = ["train", "train", "test", "test", "validation"]
    one = Recording(images, np.ones((5, 1)), range(5), tiers)
    other = Recording(images[[0, 1, 0, 3, 4]], np.ones((5, 1)), range(5), tiers)
    with pytest.warns(UserWarning, match="2 of 5 common images are left out"):
        pooled = pool_recordings([one, other], image_ids=[range(5)] * 2)
    np.testing.assert_array_equal(pooled.images, images[[1, 3, 4]])


@given(st.integers(0, 2**32 - 1))
@pytest.mark.filterwarnings("ignore:.* common images are left out")
def test_no_image_is_in_another_tier_of_any_recording(seed):
    """Any tiers, images over and over, in rows of their own; what is lost has a reason."""
    rng = np.random.default_rng(seed)
    looks = np.arange(8.0)
    recordings, tiers_of, numbers = [], [set() for _ in looks], []
    for _ in range(2):
        table = np.concatenate([looks, rng.choice(looks, 2)]).astype(int)
        of_image = rng.choice(["train", "validation", "test"], len(table), p=[0.8, 0.1, 0.1])
        ids = rng.permutation(np.concatenate([range(len(table)), rng.choice(len(table), 5)]))
        ids = ids[: rng.integers(10, 16)]
        r = Recording(table[:, None, None], table[ids][:, None], ids, of_image[ids])
        recordings.append(r)
        numbers.append(set(table[ids]))
        for i in ids:
            tiers_of[table[i]].add(of_image[i])
    good = {i for i in numbers[0] & numbers[1] if len(tiers_of[i]) == 1}
    if not any("train" in tiers_of[i] for i in good):
        return
    pooled = pool_recordings(recordings, rng=0)
    assert set(pooled.images.ravel()) == good
    for image, tier, response in zip(pooled.image_ids, pooled.tiers, pooled.responses):
        look = pooled.images[image, 0, 0]
        assert tiers_of[int(look)] == {tier}
        assert (response == look).all()


# Models


def poisson(images, filters, order, rng):
    """A recording of linear-nonlinear neurons, images shown in this order; a quarter validate."""
    z = (images - images.mean()) / images.std()
    rate = np.exp(np.tensordot(z[order], filters, axes=((1, 2), (1, 2))))
    tiers = np.where(np.arange(len(images)) % 4, "train", "validation")
    return Recording(images, rng.poisson(rate), order, tiers[order])


@pytest.fixture
def animals(rng):
    """Two, that saw the same images in different order."""
    images = rng.normal(100, 40, (160, *SIZE))
    filters = 0.3 * rng.normal(size=(2, 3, *SIZE))
    return [poisson(images, f, rng.permutation(160), rng) for f in filters]


def test_glms_of_pooled_neurons_are_those_of_their_recordings(animals):
    glm = PoissonGLM([0.1], tol=1e-10).fit(pool_recordings(animals, rng=0))
    singles = [PoissonGLM([0.1], tol=1e-10).fit(one) for one in animals]
    for name in ("weights_", "biases_"):
        expected = np.concatenate([getattr(one, name) for one in singles])
        np.testing.assert_allclose(getattr(glm, name), expected, atol=1e-6)


def test_penalties_are_of_each_neuron(animals):
    """48 of them, over all animals at once: noise gets a large one."""
    one, other = animals
    noise = np.random.default_rng(0).poisson(1.0, (160, 2))
    pooled = pool_recordings([one, Recording(other.images, noise, other.image_ids, other.tiers)])
    glm = PoissonGLM(n_folds=3, rng=0).fit(pooled)
    assert glm.heldout_.shape == (48, 5)
    assert glm.penalties_[:3].max() < 0.5
    assert glm.penalties_[3:].min() > 1
    assert glm.predict(pooled.images).shape == (160, 5)


@pytest.fixture
def one_thread():
    """Tiny networks are faster."""
    pytest.importorskip("lightning", reason="needs the torch extra")
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def test_encoding_models_take_them(animals, one_thread):
    from fastvis.twin import EncodingModel, RotationEquivariantCore

    pooled = pool_recordings(animals, rng=0)
    core = RotationEquivariantCore((3,), n_features=2, n_orientations=4)
    model = EncodingModel(core, validate_every=10, learning_rate=3e-2, batch_size=32, rng=0)
    model.fit(pooled, max_steps=30)
    assert model.losses_[-1] < model.losses_[0] - 0.1
    assert model.predict(pooled.images).shape == (160, 6)
    assert model.readouts().shape == (6, 2, 4)


# Table 1


def test_table_has_the_common_images_in_its_last_row(recordings):
    lines = summary_table(
        recordings, pool_recordings(recordings, rng=0), n_scanned=[50, 1, 30]
    ).splitlines()
    assert lines[0] == (
        "| Animal | Neurons in the scan | Sampled neurons | Train images | Validation images "
        "| Test images | Test trials |"
    )
    assert lines[2:] == [
        "| 1 | 50 | 2 | 13 | 5 | 6 | 21 |",
        "| 2 | 1 | 1 | 13 | 5 | 6 | 20 |",
        "| 3 | 30 | 3 | 13 | 5 | 6 | 22 |",
        "| Pooled | 81 | 6 | 12 | 4 | 5 | 20 |",
    ]
    assert {line.count("|") for line in lines} == {8}
    assert len(summary_table(recordings).splitlines()) == 5


# Errors


def test_errors(recordings, images, rng):
    one = recordings[0]
    other = Recording(rng.normal(size=(4, *SIZE)), np.ones((4, 1)), range(4), ["train"] * 4)
    with pytest.raises(ValueError, match="images in common; got none of 24, 4. If the same"):
        pool_recordings([one, other])
    with pytest.raises(ValueError, match="images of one size"):
        pool_recordings([one, Recording(np.ones((1, 3, 3)), [[1]], [0], ["train"])])
    swapped = np.where(TIERS == "train", "validation", "train")
    other = shown(images, swapped, np.ones(N_COMMON, int), 1, 0, rng)
    with pytest.raises(
        ValueError, match="got none of 21 common images, 21 of which are in several"
    ):
        pool_recordings([one, other])
    few = Recording(images[TEST], np.ones((5, 1)), range(5), ["test"] * 4 + ["train"])
    with pytest.raises(ValueError, match="got none of 5 common images, 1 of which"):
        pool_recordings([one, few])
    with pytest.raises(TypeError, match="recordings must be fastvis.twin.Recording"):
        pool_recordings([one, images])
    with pytest.raises(TypeError, match="recordings must be .*; got none"):
        pool_recordings([])
    with pytest.raises(ValueError, match="n_repeats must be an integer >= 1; got 0"):
        pool_recordings([one], n_repeats=0)
    with pytest.raises(TypeError, match="rng must be"):
        pool_recordings([one], rng="0")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([range(24)], r"image_ids must be integers or strings.*got \[\(24,\)\]"),
        ([range(24), range(23)], r"got \[\(24,\), \(23,\)\]"),
        ([range(24), np.arange(24.0)], "of dtype int64, float64"),
        ([range(24), [0, 0, *range(2, 24)]], "one id for different images of recording 1"),
    ],
)
def test_ids_that_do_not_fit(recordings, ids, message):
    with pytest.raises(ValueError, match=message):
        pool_recordings(recordings[:2], image_ids=ids)


def test_tables_that_do_not_fit(recordings):
    with pytest.raises(ValueError, match="pooled must have all 6 neurons .* got 5"):
        summary_table(recordings, pool_recordings(recordings[::2]))
    with pytest.raises(TypeError, match="recordings must be fastvis.twin.Recording"):
        summary_table(recordings, recordings)
    with pytest.raises(ValueError, match=r"n_scanned must be 3 .* samples of \[2, 1, 3\]"):
        summary_table(recordings, n_scanned=[2, 1, 2])
    with pytest.raises(ValueError, match="n_scanned must be 3 numbers"):
        summary_table(recordings, n_scanned=[20, 20])
