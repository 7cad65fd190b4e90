"""What importing fastvis costs."""

import json
import subprocess
import sys

import pytest

import fastvis

BUDGET = 0.25  # seconds


def in_new_process(code):
    """What the code prints, as JSON."""
    return json.loads(subprocess.check_output([sys.executable, "-c", code], timeout=60))


def test_import_takes_no_time_and_pulls_in_nothing_heavy():
    code = """
import json, sys, time
start = time.perf_counter()
import fastvis
print(json.dumps([time.perf_counter() - start, list(sys.modules)]))
"""
    seconds, modules = zip(*(in_new_process(code) for _ in range(3)))
    assert min(seconds) < BUDGET
    heavy = {"numba", "torch", "sklearn", "matplotlib", "scipy.signal"}
    assert not heavy & set(modules[0])


@pytest.mark.parametrize("access", ["import fastvis.textures", "import fastvis; fastvis.textures"])
def test_textures_need_neither_torch_nor_matplotlib_nor_sklearn(access):
    modules = in_new_process(f"import json, sys; {access}; print(json.dumps(list(sys.modules)))")
    assert "fastvis.textures" in modules
    assert not {"torch", "matplotlib", "sklearn"} & set(modules)


def test_dir_lists_the_subpackages():
    assert dir(fastvis) == sorted(fastvis.__all__)
    assert {"__version__", "textures", "torch"} <= set(dir(fastvis))
    assert fastvis.textures.__name__ == "fastvis.textures"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="^module 'fastvis' has no attribute 'texture'$"):
        fastvis.texture  # noqa: B018
