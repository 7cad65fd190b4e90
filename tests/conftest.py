"""What tests share."""

import multiprocessing
import threading
import warnings

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fastvis", deadline=None, derandomize=True)
settings.load_profile("fastvis")

TIMEOUT = 60  # seconds after which something hangs


@pytest.fixture
def rng():
    """A generator that gives every test the same numbers."""
    return np.random.default_rng(0)


@pytest.fixture
def together():
    """``together(f, g, ...)`` calls the functions at once, each in a thread; their results."""

    def run(*functions):
        start = threading.Barrier(len(functions))
        results, errors = [None] * len(functions), []

        def work(i):
            try:
                start.wait(TIMEOUT)
                results[i] = functions[i]()
            except BaseException as error:
                errors.append(error)

        workers = [
            threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(functions))
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(TIMEOUT)
        if errors:
            raise errors[0]
        assert not any(worker.is_alive() for worker in workers), "a thread hangs"
        return results

    return run


@pytest.fixture
def in_fork():
    """``in_fork(f)`` is f() in a forked child, which fails if it hangs."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this platform does not fork")
    fork = multiprocessing.get_context("fork")

    def run(function):
        receiver, sender = fork.Pipe(duplex=False)
        child = fork.Process(target=lambda: sender.send(function()), daemon=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
            child.start()
        sender.close()
        try:
            assert receiver.poll(TIMEOUT), "the forked child hangs"
            return receiver.recv()
        finally:
            child.kill()
            child.join()

    return run
