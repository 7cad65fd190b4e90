"""What every kernel family owes, whatever it computes.

A new family adds its name to FAMILIES and a file ``cases/<name>.py`` with

    IMPLEMENTATIONS  {"reference": make, "cpu": make, ...}; make(arrays, **options) prepares for
                     these arrays and returns call; call(**arrays) returns {output: array or number}
    OPTIONS          {name: keyword arguments of make}
    SIZES            {name: size}, small and odd, and "medium" and "large": of the large problem
                     every kernel makes at least 5 pieces
    inputs           inputs(size, dtype, rng): {name: array}, the arrays above
    TUNED, TUNINGS   a module and {name: {constant: value}}: other block sizes for the medium
                     problem, same numbers

An output "d loss / d image" is the gradient of the output "loss" by the input "image".
Small problems are tested with all options, the others with the first.
"""

import hashlib
import sys
import threading
import time
from collections import Counter
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastvis._kernels import threads

FAMILIES = ("gram", "rotation", "leaves", "blocktri", "covariance", "paths")
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}  # of max |error| / max |reference|


class Case(NamedTuple):
    """An implementation of a family's kernels, and a problem for it."""

    family: ModuleType
    implementation: str
    size: str
    options: str
    dtype: type

    def __str__(self):
        family = self.family.__name__.rpartition(".")[2]
        return " - ".join([family, *self[1:4], self.dtype.__name__])

    def inputs(self, seed=0):
        size = self.family.SIZES[self.size]
        return self.family.inputs(size, self.dtype, np.random.default_rng(seed))

    def make(self, arrays, implementation=None):
        make = self.family.IMPLEMENTATIONS[implementation or self.implementation]
        return make(arrays, **self.family.OPTIONS[self.options])


CASES = [
    Case(family, implementation, size, options, dtype)
    for family in [import_module(f"{__package__}.cases.{name}") for name in FAMILIES]
    for implementation in family.IMPLEMENTATIONS
    for size in family.SIZES
    for options in family.OPTIONS
    for dtype in TOLERANCE
]


def cases(size, *, reference=False, dtypes=tuple(TOLERANCE)):
    """Parametrize by the cases of the "small", "medium" or "large" sizes."""

    def wanted(case):
        if size == "small":
            fits = case.size not in ("medium", "large")
        else:
            fits = case.size == size and case.options == next(iter(case.family.OPTIONS))
        return fits and case.dtype in dtypes and (reference or case.implementation != "reference")

    return pytest.mark.parametrize("case", list(filter(wanted, CASES)), ids=str)


@pytest.fixture
def use_threads(monkeypatch):
    """``use_threads(n)`` sets the number of threads of every kernel."""
    return lambda n: monkeypatch.setattr(threads, "thread_count", lambda: n)


@pytest.fixture
def watch(monkeypatch):
    """``watch(wrap)`` has `run_ranges` run ``wrap(kernel, number of pieces)`` for every kernel."""

    def install(wrap):
        run_ranges = threads.run_ranges

        def watched(kernel, n, *args, grain, **kwargs):
            return run_ranges(wrap(kernel, -(-n // grain)), n, *args, grain=grain, **kwargs)

        for name, module in list(sys.modules.items()):
            if name.startswith("fastvis._kernels") and hasattr(module, "run_ranges"):
                monkeypatch.setattr(module, "run_ranges", watched)

    return install


def digests(outputs):
    """What two sets of outputs must share to be the same to the last bit."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        for name, array in outputs.items()
    }


def assert_matches_reference(case, outputs, arrays):
    arrays = {
        name: a.astype(np.float64) if a.dtype == case.dtype else a for name, a in arrays.items()
    }
    expected = case.make(arrays, "reference")(**arrays)
    assert outputs.keys() == expected.keys()
    for name, array in outputs.items():
        assert np.shape(array) == np.shape(expected[name]), name
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            assert array.dtype == case.dtype, name
        error = np.abs(np.subtract(array, expected[name], dtype=np.float64)).max()
        assert error <= TOLERANCE[case.dtype] * np.abs(expected[name]).max(), name


# The numbers


@cases("small")
def test_matches_reference(case, use_threads):
    arrays = case.inputs()
    for n_threads in (1, 2, 3):
        use_threads(n_threads)
        assert_matches_reference(case, case.make(arrays)(**arrays), arrays)


@cases("small", reference=True, dtypes=(np.float64,))
def test_gradient_matches_finite_differences(case, rng, use_threads):
    use_threads(1)
    step = 1e-5
    arrays = case.inputs()
    call = case.make(arrays)
    gradients = {name: g for name, g in call(**arrays).items() if name.startswith("d ")}
    for name, gradient in gradients.items():
        value, argument = name.removeprefix("d ").split(" / d ")
        for _ in range(2):
            direction = rng.normal(size=gradient.shape)
            direction /= np.linalg.norm(direction)
            right, left = (
                call(**{**arrays, argument: arrays[argument] + h * direction})[value]
                for h in (step, -step)
            )
            error = (right - left) / (2 * step) - np.vdot(gradient, direction)
            assert abs(error) < 1e-6 * np.linalg.norm(gradient), name


@cases("medium")
def test_other_block_sizes_same_numbers(case, monkeypatch, use_threads):
    arrays = case.inputs()
    for tuning in case.family.TUNINGS.values():
        with monkeypatch.context() as patch:
            for name, value in tuning.items():
                patch.setattr(case.family.TUNED, name, value)
            call = case.make(arrays)
            use_threads(1)
            alone = call(**arrays)
            assert_matches_reference(case, alone, arrays)
            use_threads(3)
            assert digests(call(**arrays)) == digests(alone)


# The threads


@cases("large")
def test_same_bytes_for_any_number_of_threads(case, use_threads, watch):
    n_pieces = {}

    def count(kernel, n):
        n_pieces[kernel.__name__] = min(n, n_pieces.get(kernel.__name__, n))
        return kernel

    def run(n_threads):
        use_threads(n_threads)
        with threadpool_limits(n_threads, user_api="blas"):
            return case.make(arrays)(**arrays)

    watch(count)
    arrays = case.inputs()
    alone = run(1)
    assert_matches_reference(case, alone, arrays)
    assert n_pieces
    assert min(n_pieces.values()) >= 5, n_pieces
    for n_threads in (2, 3, 5):
        assert digests(run(n_threads)) == digests(alone)


@cases("large")
def test_two_callers_at_once(case, together, use_threads):
    use_threads(2)
    a, b = case.inputs(1), case.inputs(2)
    call = case.make(a)
    alone = [digests(call(**arrays)) for arrays in (a, b)]
    assert alone[0] != alone[1]
    for _ in range(3):
        assert together(lambda: digests(call(**a)), lambda: digests(call(**b))) == alone


@cases("large")
def test_outputs_are_the_callers(case):
    a, b = case.inputs(1), case.inputs(2)
    call = case.make(a)
    outputs = call(**a)
    before = digests(outputs)
    call(**b)
    assert digests(outputs) == before


@cases("large", dtypes=(np.float32,))
def test_kernels_release_the_gil(case, use_threads, watch):
    # No thread gives way for 60 s by itself: the ticks go on only where a kernel releases the GIL.
    n_ticks, finished, ticks_during = 0, threading.Event(), Counter()

    def tick():
        nonlocal n_ticks
        while not finished.is_set():
            n_ticks += 1
            time.sleep(1e-5)

    def timed(kernel, n):
        ticks_during.setdefault(kernel.__name__, 0)

        def run(*args):
            before = n_ticks
            result = kernel(*args)
            ticks_during[kernel.__name__] += n_ticks - before
            return result

        return run

    watch(timed)
    use_threads(1)
    arrays = case.inputs()
    call = case.make(arrays)
    interval = sys.getswitchinterval()
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        sys.setswitchinterval(60)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not (ticks_during and all(ticks_during.values())):
            call(**arrays)
    finally:
        sys.setswitchinterval(interval)
        finished.set()
        ticker.join()
    assert ticks_during
    assert all(ticks_during.values()), ticks_during


# Forks


@cases("large")
def test_in_a_forked_child(case, in_fork, use_threads):
    use_threads(3)
    arrays = case.inputs()
    call = case.make(arrays)
    outputs = digests(call(**arrays))
    assert in_fork(lambda: digests(call(**arrays))) == outputs
    assert digests(call(**arrays)) == outputs  # nor did the fork harm the parent


@cases("large", dtypes=(np.float32,))
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_in_a_data_loader(case, in_fork, use_threads):  # in_fork skips where there is none
    data = pytest.importorskip("torch.utils.data", reason="needs the torch extra")
    use_threads(2)
    inputs = [case.inputs(seed) for seed in range(4)]
    call = case.make(inputs[0])
    outputs = [digests(call(**arrays)) for arrays in inputs]

    class Outputs(data.Dataset):
        def __len__(self):
            return len(inputs)

        def __getitem__(self, i):
            return digests(call(**inputs[i]))

    loader = data.DataLoader(
        Outputs(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert list(loader) == outputs


# The inputs


@cases("large")
def test_inputs_are_only_read(case):
    arrays = case.inputs()
    outputs = digests(case.make(arrays)(**arrays))
    assert digests(arrays) == digests(case.inputs())
    for array in arrays.values():
        array.flags.writeable = False
    assert digests(case.make(arrays)(**arrays)) == outputs
