"""How many threads, how they share a kernel's work, and how BLAS is kept out of their way.

Every kernel is a serial function over a range ``[start, stop)`` that releases the GIL.
`run_ranges` cuts the range into pieces *by the problem's size, never by the thread count*, runs
them on threads made for the call, and gives back their results in the order of the pieces: sums
over pieces are the same to the last bit for any number of threads. No thread outlives its call,
so a forked child (a DataLoader worker) starts clean.
"""

import _thread
import contextlib
import functools
import os
import queue
import threading
import time

import joblib
import threadpoolctl

WAIT = 5e-5  # seconds, between two looks at whether a piece may begin


class _BlasLimiter(contextlib.ContextDecorator):
    """``with one_blas_thread:`` (or ``@``) holds every BLAS of the process to one; re-entrant.

    ``threadpoolctl.threadpool_limits`` searches the loaded libraries on each call (4 ms) and, when
    two Python threads enter it at once, the second saves the first one's limit and restores it
    last: the process stays at one thread for good. Here the controller is made once, and a count
    says who was first (saves and sets) and who is last (restores).
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._controller = None
        self._depth = 0
        self._saved = []

    def _libraries(self):
        # NumPy's and SciPy's BLAS are both loaded once scipy.linalg is.
        if self._controller is None:
            import scipy.linalg  # noqa: F401

            self._controller = threadpoolctl.ThreadpoolController().select(user_api="blas")
        return self._controller.lib_controllers

    def __enter__(self):
        with self._lock:
            if self._depth == 0:
                self._saved = [(lib, lib.num_threads) for lib in self._libraries()]
                for lib, _ in self._saved:
                    _set_num_threads(lib, 1)
            self._depth += 1

    def __exit__(self, *exc_info):
        with self._lock:
            if self._depth == 0:  # forked inside the block: `after_fork` has lifted the limit
                return
            self._depth -= 1
            if self._depth == 0:
                for lib, n in self._saved:
                    _set_num_threads(lib, n)

    def caller_limit(self):
        """BLAS threads that the caller allows: the value that our own limit hides, if it is set."""
        with self._lock:
            if self._depth:
                counts = [n for _, n in self._saved]
            else:
                counts = [lib.num_threads for lib in self._libraries()]
        return max(counts, default=None)

    def after_fork(self):
        """The child has none of the threads that were inside: lift their limit."""
        self._lock = threading.Lock()
        if self._depth:
            self._depth = 0
            for lib, n in self._saved:
                _set_num_threads(lib, n)


def _set_num_threads(library, n):
    # threadpoolctl >= 3.7 ignores all threads but the first that ever set OpenBLAS's number; our
    # count keeps the callers apart, so we may go past that.
    setter = getattr(library, "_real_set_num_threads", library.set_num_threads)
    setter(n)


one_blas_thread = _BlasLimiter()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=one_blas_thread.after_fork)


@functools.cache
def _cpu_count():
    return joblib.cpu_count()  # reads the cgroup's files


def thread_count():
    """Threads for a kernel: what CPUs, cgroup, OMP_NUM_THREADS and the caller allow.

    The caller's limit is the one that `threadpoolctl.threadpool_limits` sets for BLAS.
    """
    limits = [_cpu_count(), one_blas_thread.caller_limit()]
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if omp.isdigit():
        limits.append(int(omp))
    return max(1, min(n for n in limits if n is not None))


def run_ranges(kernel, n, *args, grain, threads=None, after=None):
    """Run ``kernel(start, stop, *args)`` over ``range(n)`` in pieces of ``grain`` items.

    Parameters
    ----------
    kernel : callable
        Releases the GIL for its work; pieces must not write to the same memory.
    n, grain : int
        Number of items, and items per piece. A piece should last at least 0.2 ms.
    threads : int, optional
        `thread_count()` by default. Changes the speed, never the result.
    after : sequence of sequences of int, optional
        For each piece the earlier pieces that it waits for.

    Returns
    -------
    list
        What the kernel returned for each piece, in the order of the pieces.

    Raises
    ------
    BaseException
        The first error of a piece, after all threads have stopped; pieces that had not begun by
        then are left out.
    """
    pieces = [(start, min(start + grain, n)) for start in range(0, n, grain)]
    threads = min(thread_count() if threads is None else threads, len(pieces))
    if threads <= 1:
        return [kernel(start, stop, *args) for start, stop in pieces]

    results, is_done = [None] * len(pieces), [False] * len(pieces)
    errors = []
    todo = list(range(len(pieces)))[::-1]
    begun, ended, wake = [], [], queue.SimpleQueue()

    def work():
        while not errors:
            try:
                i = todo.pop()
            except IndexError:
                return
            try:
                while after is not None and not all(is_done[k] for k in after[i]):
                    if errors:  # then what it waits for may never be done
                        return
                    time.sleep(WAIT)
                results[i] = kernel(*pieces[i], *args)
                is_done[i] = True
            except BaseException as error:
                errors.append(error)

    def help_out():
        begun.append(True)
        work()
        ended.append(True)
        wake.put(True)

    # threading.Thread's start and join break when Ctrl-C comes in the middle of them
    try:
        for _ in range(threads - 1):
            _thread.start_new_thread(help_out, ())
        work()
    except BaseException as error:  # a thread that cannot start; Ctrl-C between two pieces
        errors.append(error)
    while len(ended) < len(begun):  # who begins later finds nothing to do
        try:
            wake.get(timeout=0.1)
        except queue.Empty:
            pass
        except KeyboardInterrupt as error:  # the others finish their piece and stop
            errors.append(error)
    if errors:
        raise errors[0]
    return results
