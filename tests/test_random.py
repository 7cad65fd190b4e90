"""The rng argument and the streams of items."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvis._random import check_rng, item_seeds

SEEDS = st.integers(0, 2**100)


@given(SEEDS)
def test_an_int_is_a_seed(seed):
    expected = np.random.default_rng(seed).bytes(32)
    assert check_rng(seed).bytes(32) == expected
    assert check_rng(seed).bytes(32) == expected


def test_numpy_ints_are_seeds():
    assert check_rng(np.uint8(7)).bytes(32) == check_rng(7).bytes(32)


def test_a_generator_is_used_itself():
    generator = np.random.default_rng(0)
    assert check_rng(generator) is generator


def test_none_is_new_each_time_and_global_state_stays():
    before = np.random.get_state()[1].tobytes()  # noqa: NPY002
    assert check_rng(None).bytes(32) != check_rng(None).bytes(32)
    assert np.random.get_state()[1].tobytes() == before  # noqa: NPY002


@pytest.mark.parametrize(
    "rng", ["0", 1.0, True, np.random, np.random.RandomState(0), [1]]  # noqa: NPY002
)
def test_anything_else_is_refused(rng):
    message = (
        "rng must be None, an int or a numpy.random.Generator; "
        f"got {type(rng).__name__}. Pass numpy.random.default_rng(seed)."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_rng(rng)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="^rng must not be negative; got -1. Pass any int >= 0.$"):
        check_rng(-1)


@given(SEEDS, st.integers(0, 50), st.integers(0, 50))
def test_item_seeds_do_not_depend_on_the_batches(seed, n, m):
    whole = item_seeds(seed, n + m)
    generator = np.random.default_rng(seed)
    batches = np.concatenate([item_seeds(generator, n), item_seeds(generator, m)])
    assert np.array_equal(batches, whole)
    assert np.array_equal(item_seeds(seed, n), whole[:n])


def test_item_seeds_use_all_64_bits():
    seeds = item_seeds(0, 4096)
    assert seeds.dtype == np.uint64
    assert len(np.unique(seeds)) == len(seeds)
    ones = (seeds[:, None] >> np.arange(64, dtype=np.uint64) & np.uint64(1)).mean(axis=0)
    assert np.abs(ones - 0.5).max() < 0.04  # five standard errors
