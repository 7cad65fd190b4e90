"""How the benchmarks measure: in turn, with equal threads, memory in fresh processes.

Every ratio is fastvis / peer, below 1 where fastvis is better: asv takes larger for worse.
"""

import pickle
import platform
import re
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import scipy.linalg  # noqa: F401 (loads its BLAS, for `use_threads`)
import threadpoolctl
import torch

import fastvis
from fastvis._kernels.threads import thread_count

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.25  # seconds: so long the threads of OpenMP and OpenBLAS spin on after their work
WARM_UP = 0.2  # seconds: so long a processor that has slept is slower (30 instead of 22 ms)


@dataclass(frozen=True)
class Row:
    """What the table says about one comparison. Seconds and bytes; None: not measured."""

    peer: str | None
    seconds: float
    peer_seconds: float | None = None
    ratio: float | None = None
    memory: int | None = None
    peer_memory: int | None = None
    floor_seconds: float | None = None
    floor_ratio: float | None = None
    error: float | None = None
    peer_error: float | None = None


def use_threads(n=None):
    """Hold fastvis, BLAS and PyTorch to ``n`` threads from now on; by default fastvis's choice."""
    n = thread_count() if n is None else n
    threadpoolctl.threadpool_limits(n)
    torch.set_num_threads(n)


# Time


def alternate(*functions, rounds=7, warm_up=True):
    """Time functions in turn, A B A B ..., in this process.

    A turn is a pause, calls for `WARM_UP` seconds that are not counted unless one takes as long,
    and a call that is: what stands in a loop runs on a processor that is awake, and not beside the
    idling threads of somebody else's pool. Without ``warm_up`` the first call counts.

    Returns
    -------
    seconds : list of float
        The median of each function.
    ratios : list of float
        The first function's time over each one's: medians over the rounds. What slows the
        machine down for a while slows both and cancels.
    """
    if warm_up:
        for function in functions:
            function()
    times = [[_seconds(function, warm_up) for function in functions] for _ in range(rounds)]
    seconds = [statistics.median(column) for column in zip(*times)]
    ratios = [statistics.median(row[0] / row[i] for row in times) for i in range(len(functions))]
    return seconds, ratios


def compare(peer, ours, theirs, best, floor, rounds=7):
    """The `Row` of two functions, which ``ours()`` and ``theirs()`` make.

    ``best`` is a yardstick, as `Gemm`, and the floor so many times that.
    """
    seconds, ratios = alternate(ours(), theirs(), best, rounds=rounds)
    return Row(
        peer,
        *seconds[:2],
        ratios[1],
        memory=peak_memory(ours),
        peer_memory=peak_memory(theirs),
        floor_seconds=seconds[0] * floor / ratios[2],
        floor_ratio=ratios[2] / floor,
    )


def _seconds(function, warm_up):
    time.sleep(PAUSE)
    seconds, total = _time(function), 0.0
    while warm_up and total < WARM_UP and seconds < WARM_UP:
        total += seconds
        seconds = _time(function)
    return seconds


def _time(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


# What the machine does at best


class Gemm:
    """A plain square product in NumPy, the yardstick for floors in flops."""

    def __init__(self, dtype, n=2048):
        rng = np.random.default_rng(0)
        self.a, self.b = (rng.random((n, n)).astype(dtype) for _ in range(2))
        self.out = np.empty_like(self.a)
        self.flops = 2 * n**3

    def __call__(self):
        np.matmul(self.a, self.b, out=self.out)


class Copy:
    """A plain copy in NumPy, the yardstick for floors in bytes."""

    def __init__(self, n=1 << 25):
        self.source, self.out = np.ones(n), np.empty(n)
        self.bytes = self.source.nbytes + self.out.nbytes

    def __call__(self):
        np.copyto(self.out, self.source)


def machine(rounds=7):
    """Two lines of text: what the numbers were measured on, and its rates."""
    cpu = platform.processor()
    with suppress(OSError, TypeError):
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[1]
    versions = ", ".join(
        f"{name} {version}"
        for name, version in (
            ("Python", platform.python_version()),
            ("NumPy", np.__version__),
            ("SciPy", scipy.__version__),
            ("PyTorch", torch.__version__),
            ("fastvis", fastvis.__version__),
        )
    )
    single, double, copy = Gemm(np.float32), Gemm(np.float64), Copy()
    seconds, _ = alternate(single, double, copy, rounds=rounds)
    return (
        f"{joblib.cpu_count()} vCPU ({cpu}), threads used: {thread_count()}; {versions}.\n"
        f"A plain product: {single.flops / seconds[0] / 1e9:.0f} Gflop/s in float32, "
        f"{double.flops / seconds[1] / 1e9:.0f} in float64; "
        f"a plain copy: {copy.bytes / seconds[2] / 1e9:.0f} GB/s, read and written.\n"
    )


# Memory


def peak_memory(prepare):
    """Bytes that a first call takes at most, above what imports and inputs take.

    Parameters
    ----------
    prepare : callable
        Makes the inputs and returns the function to be called. Must pickle: the method of a
        dataclass, for instance. Runs in a fresh process.
    """
    code = "from benchmarks.common import _report_peak; _report_peak()"
    return int(fresh_process(code, pickle.dumps((prepare, thread_count()))))


def fresh_process(code, data=b""):
    """What code prints in a new interpreter that imports the same fastvis and these benchmarks."""
    code = f"import sys; sys.path.append({str(ROOT)!r}); {code}"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def _report_peak():
    prepare, n_threads = pickle.load(sys.stdin.buffer)
    use_threads(n_threads)
    run = prepare()
    with suppress(OSError):  # not Linux, or not allowed: the mark stays that of the preparation
        Path("/proc/self/clear_refs").write_text("5")
    before = _high_water_mark()
    run()
    print(_high_water_mark() - before)


def _high_water_mark():
    """Largest resident memory so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, not inherited from the parent process
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
