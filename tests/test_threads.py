"""run_ranges, the number of threads, and the limiter of BLAS threads."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import threadpoolctl

from fastvis._kernels import threads
from fastvis._kernels.threads import one_blas_thread, run_ranges, thread_count

TIMEOUT = 30


# run_ranges


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_results_in_the_order_of_the_pieces(n_threads):
    def kernel(start, stop, sleep):
        sleep(0.003 * (start % 3))
        return start, stop

    pieces = [(start, min(start + 3, 20)) for start in range(0, 20, 3)]
    assert run_ranges(kernel, 20, time.sleep, grain=3, threads=n_threads) == pieces


@pytest.mark.parametrize("n_threads", [1, 3])
def test_no_items_and_few_items(n_threads):
    def kernel(start, stop):
        return start, stop, threading.get_ident()

    here = threading.get_ident()
    assert run_ranges(kernel, 0, grain=4, threads=n_threads) == []
    assert run_ranges(kernel, 3, grain=4, threads=n_threads) == [(0, 3, here)]  # no thread is made


def test_as_many_threads_as_asked(monkeypatch):
    def kernel(start, stop):
        together.wait(TIMEOUT)  # breaks unless three threads are here at once
        return threading.get_ident()

    together = threading.Barrier(3)
    assert len(set(run_ranges(kernel, 3, grain=1, threads=3))) == 3
    monkeypatch.setattr(threads, "thread_count", lambda: 3)
    assert len(set(run_ranges(kernel, 3, grain=1))) == 3


def test_no_more_threads_than_asked():
    running, most, lock = 0, 0, threading.Lock()

    def kernel(start, stop):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002)
        with lock:
            running -= 1

    run_ranges(kernel, 30, grain=1, threads=3)
    assert most <= 3


def test_nested_calls():
    def inner(start, stop):
        return list(range(start, stop))

    def outer(start, stop):
        pieces = run_ranges(inner, 7, grain=2, threads=2)
        return [10 * i + j for i in range(start, stop) for piece in pieces for j in piece]

    results = run_ranges(outer, 5, grain=1, threads=3)
    assert results == [[10 * i + j for j in range(7)] for i in range(5)]


class Pieces:
    """A kernel that counts its pieces; number ``at`` does ``what`` once another has begun."""

    def __init__(self, at=None, what=None):
        self.at, self.what = at, what
        self.begun, self.ended = [], []  # appending is atomic

    def __call__(self, start, stop):
        self.begun.append(start)
        if start == self.at:
            deadline = time.monotonic() + TIMEOUT
            while len(self.begun) < self.at + 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            self.what()
        time.sleep(0.02)
        self.ended.append(start)


@pytest.mark.parametrize("at", [0, 1, 7])
def test_an_error_stops_all_threads(at):
    def fail():
        raise ZeroDivisionError(f"piece {at}")

    kernel = Pieces(at, fail)
    with pytest.raises(ZeroDivisionError, match=f"piece {at}"):
        run_ranges(kernel, 1000, grain=1, threads=3)
    assert len(kernel.begun) == len(kernel.ended) + 1
    assert len(kernel.begun) < at + 10


def test_an_error_without_threads():
    def kernel(start, stop):
        begun.append(start)
        raise ZeroDivisionError

    begun = []
    with pytest.raises(ZeroDivisionError):
        run_ranges(kernel, 9, grain=1, threads=1)
    assert begun == [0]


def test_a_thread_that_cannot_start_stops_the_others(monkeypatch):
    n_starts = itertools.count(1)
    start_new_thread = threads._thread.start_new_thread

    def start(*args):
        if next(n_starts) == 2:
            raise RuntimeError("can't start new thread")
        return start_new_thread(*args)

    monkeypatch.setattr(threads._thread, "start_new_thread", start)
    kernel = Pieces()
    with pytest.raises(RuntimeError, match="can't start"):
        run_ranges(kernel, 1000, grain=1, threads=4)
    assert len(kernel.begun) == len(kernel.ended) < 10


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_pieces_that_wait_for_earlier_ones(n_threads):
    done = set()

    def kernel(start, stop):
        time.sleep(0.002 * (3 - start % 3))  # the later pieces would be ready first
        missing = set(after[start]) - done
        done.add(start)
        return missing

    after = [[k for k in (i - 2, i - 3) if k >= 0] for i in range(30)]
    assert run_ranges(kernel, 30, grain=1, threads=n_threads, after=after) == [set()] * 30


def test_nobody_waits_for_a_piece_that_failed():
    def kernel(start, stop):
        begun.append(start)
        time.sleep(0.02)
        raise ZeroDivisionError

    begun = []
    with pytest.raises(ZeroDivisionError):
        run_ranges(kernel, 9, grain=1, threads=3, after=[[], *([[0]] * 8)])
    assert begun == [0]


posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


def press_ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


@posix
def test_ctrl_c_stops_all_threads():
    before = threading.enumerate()
    kernel = Pieces(4, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        run_ranges(kernel, 1000, grain=1, threads=3)
    assert threading.enumerate() == before
    assert len(kernel.begun) < 20


@posix
def test_ctrl_c_while_waiting_for_the_other_threads():
    helper_works, caller_is_done = threading.Event(), threading.Event()
    ended = []

    def kernel(start, stop):
        if threading.current_thread() is threading.main_thread():
            helper_works.wait(TIMEOUT)
            caller_is_done.set()
        else:
            helper_works.set()
            caller_is_done.wait(TIMEOUT)
            time.sleep(0.05)
            press_ctrl_c()
            time.sleep(0.3)
            ended.append(start)

    with pytest.raises(KeyboardInterrupt):
        run_ranges(kernel, 2, grain=1, threads=2)
    assert len(ended) == 1


# The limiter


@pytest.fixture(autouse=True)
def three_blas_threads():
    """BLAS with three threads, on any machine; the limiter is free before and after."""
    assert one_blas_thread._depth == 0
    before = blas_threads()
    set_blas_threads(3)
    assert blas_threads() == {3}
    yield
    assert one_blas_thread._depth == 0
    set_blas_threads(max(before))


def set_blas_threads(n):
    for library in threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers:
        if hasattr(library, "clear_controlling_thread"):  # else other threads' calls are ignored
            library.clear_controlling_thread(force=True)
        library.set_num_threads(n)
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def blas_threads():
    one_blas_thread._libraries()  # loads NumPy's and SciPy's
    infos = threadpoolctl.threadpool_info()
    return {info["num_threads"] for info in infos if info["user_api"] == "blas"}


def test_limiter_is_reentrant():
    with one_blas_thread:
        assert blas_threads() == {1}
        with one_blas_thread:
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {3}


def test_limiter_lifts_after_an_error():
    with pytest.raises(ZeroDivisionError), one_blas_thread, one_blas_thread:
        raise ZeroDivisionError
    assert blas_threads() == {3}


def limited_in_thread():
    """What a thread of its own sees inside the limiter."""
    seen = []

    def limit():
        with one_blas_thread:
            seen.append(blas_threads())

    worker = threading.Thread(target=limit, daemon=True)
    worker.start()
    worker.join(TIMEOUT)
    return seen[0]


# threadpoolctl >= 3.8 ignores all threads but the first that set a limit


def test_limiter_in_another_thread_than_before():
    with one_blas_thread:
        assert blas_threads() == {1}
    assert limited_in_thread() == {1}
    assert blas_threads() == {3}


def test_limiter_in_another_thread_than_the_callers_limit():
    with threadpoolctl.threadpool_limits(2):
        assert limited_in_thread() == {1}
        assert blas_threads() == {2}
    assert blas_threads() == {3}


def test_limiter_leaves_other_threads_free_to_limit():
    has_left, finish = threading.Event(), threading.Event()

    def limit_and_live_on():
        with one_blas_thread:
            pass
        has_left.set()
        finish.wait(TIMEOUT)

    worker = threading.Thread(target=limit_and_live_on, daemon=True)
    worker.start()
    has_left.wait(TIMEOUT)
    with threadpoolctl.threadpool_limits(2):
        seen = blas_threads()
    finish.set()
    worker.join(TIMEOUT)
    assert seen == {2}


def test_limiter_entered_and_left_by_two_threads_in_turn():
    a_is_in, b_is_in, a_is_out = (threading.Event() for _ in range(3))
    seen = []

    def a():
        with one_blas_thread:
            a_is_in.set()
            b_is_in.wait(TIMEOUT)
        a_is_out.set()

    def b():
        a_is_in.wait(TIMEOUT)
        with one_blas_thread:
            b_is_in.set()
            a_is_out.wait(TIMEOUT)
            seen.append(blas_threads())

    worker = threading.Thread(target=b, daemon=True)
    worker.start()
    a()
    worker.join(TIMEOUT)
    assert seen == [{1}]
    assert blas_threads() == {3}


def test_limiter_under_many_threads(together):
    def enter_and_leave():
        for _ in range(200):
            with one_blas_thread:
                pass

    together(*[enter_and_leave] * 4)
    assert blas_threads() == {3}


def test_limiter_is_lifted_in_a_forked_child(in_fork):
    def child():
        before = blas_threads()
        with one_blas_thread:
            inside = blas_threads()
        return before, inside, blas_threads()

    assert in_fork(child) == ({3}, {1}, {3})
    with one_blas_thread:
        assert in_fork(child) == ({3}, {1}, {3})


def test_fork_while_another_thread_holds_the_limiter(in_fork):
    held, finish = threading.Event(), threading.Event()

    def hold():
        with one_blas_thread, one_blas_thread._lock:
            held.set()
            finish.wait(TIMEOUT)

    def child():
        with one_blas_thread:
            inside = blas_threads()
        return inside, blas_threads()

    worker = threading.Thread(target=hold, daemon=True)
    worker.start()
    held.wait(TIMEOUT)
    try:
        assert in_fork(child) == ({1}, {3})
    finally:
        finish.set()
        worker.join(TIMEOUT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_fork_within_the_limiter():
    # the child leaves the with block, too
    with one_blas_thread:
        child = os.fork()
    if child == 0:
        signal.alarm(TIMEOUT)
        try:
            with one_blas_thread:
                inside = blas_threads()
            right = (inside, blas_threads()) == ({1}, {3})
        finally:
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The number of threads


@pytest.fixture
def many_cpus(monkeypatch):
    monkeypatch.setattr(threads, "_cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_thread_count_is_the_cpus(monkeypatch, many_cpus):
    set_blas_threads(8)
    assert thread_count() == 8
    monkeypatch.setattr(threads, "_cpu_count", lambda: 5)
    assert thread_count() == 5


def test_thread_count_keeps_the_callers_limit(many_cpus):
    assert thread_count() == 3  # what three_blas_threads set
    with threadpoolctl.threadpool_limits(2):
        assert thread_count() == 2
        with one_blas_thread:  # hides the caller's limit, not its own
            assert thread_count() == 2
    assert thread_count() == 3


@pytest.mark.parametrize(
    ("value", "count"), [("2", 2), ("2,1", 2), ("9", 3), ("", 3), ("many", 3), ("0", 1)]
)
def test_thread_count_keeps_omp_num_threads(monkeypatch, many_cpus, value, count):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() == count


def test_thread_count_in_a_fresh_process():
    code = (
        "from fastvis._kernels import threads\n"
        "threads._cpu_count = lambda: 8\n"
        "print(threads.thread_count())"
    )

    others = {name: v for name, v in os.environ.items() if not name.endswith("_NUM_THREADS")}

    def count(**variables):
        return int(subprocess.check_output([sys.executable, "-c", code], env=others | variables))

    assert count(OMP_NUM_THREADS="1") == 1
    assert count(OPENBLAS_NUM_THREADS="1") == 1
    assert count(OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="1") == 1
