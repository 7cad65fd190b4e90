"""The Numba decorators: cached where possible, without the GIL, CUDA on demand."""

import os
import subprocess
import sys

import numba
import pytest

from fastvis._kernels import jit

KERNEL = """
from fastvis._kernels.jit import njit

@njit
def total(start, stop):
    s = 0
    for i in range(start, stop):
        s += i
    return s

print(total(0, 5), sum(total.stats.cache_hits.values()), total.stats.cache_path)
"""

CUDA_KERNEL = """
try:
    import numba.cuda.simulator
except ImportError:
    print("no simulator")
    raise SystemExit

import numpy as np
from fastvis._kernels.jit import cuda_jit
from numba import cuda

@cuda_jit
def double(x, out):
    i = cuda.grid(1)
    if i < len(x):
        out[i] = 2 * x[i]

out = np.zeros(5)
double[2, 3](np.arange(5.0), out)
print(out.tolist())
"""


def run(path, code, **environment):
    """Output of the code, run from a file in a process of its own."""
    path.write_text(code)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = [sys.executable, "-B", str(path)]
    return subprocess.check_output(command, env=clean | environment, text=True, timeout=60)


def test_njit_caches(tmp_path):
    cache = tmp_path / "cache"
    for n_hits in (0, 1):
        output = run(tmp_path / "kernel.py", KERNEL, NUMBA_CACHE_DIR=str(cache))
        assert output.startswith(f"10 {n_hits} {cache}")


def test_njit_works_where_no_cache_can_be_written(tmp_path):
    # files stand where directories would have to be made: this binds root, too
    (tmp_path / "__pycache__").touch()
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "LOCALAPPDATA": os.devnull}
    assert run(tmp_path / "kernel.py", KERNEL, **nowhere) == "10 0 None\n"


def test_njit_releases_the_gil_and_compiles_on_first_call():
    @jit.njit
    def kernel(start, stop):
        return stop - start

    assert kernel.targetoptions["nogil"]
    assert not kernel.targetoptions.get("parallel")
    assert not kernel.signatures
    assert kernel(2, 5) == 3


def test_cuda_jit_names_the_extra(monkeypatch):
    monkeypatch.delattr(numba, "cuda", raising=False)
    monkeypatch.setitem(sys.modules, "numba.cuda", None)
    with pytest.raises(ImportError, match=r"numba-cuda.*pip install fastvis\[cuda\]"):
        jit.cuda_jit(lambda x: x)


def test_cuda_jit_in_the_simulator(tmp_path):
    output = run(tmp_path / "kernel.py", CUDA_KERNEL, NUMBA_ENABLE_CUDASIM="1")
    if output == "no simulator\n":
        pytest.skip("this numba has no CUDA simulator; the extra cuda brings one")
    assert output == "[0.0, 2.0, 4.0, 6.0, 8.0]\n"
