#!/usr/bin/env bash
# Every check of the project: tests, and beside them what else there is, whose output comes after.
# `make test` calls it, with the python of .venv first on PATH.
# README_DOCTEST=0 leaves out the examples of README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

scratch=$(mktemp -d)
export OMP_WAIT_POLICY=passive # spinning threads starve each other where cores are shared

leg() { # heading; each leg compiles its Numba functions afresh
    printf '\n== %s\n' "$1"
    export NUMBA_CACHE_DIR="$scratch/numba-${1// /-}"
}

other_legs() {
    leg "CUDA kernels in the simulator"
    NUMBA_ENABLE_CUDASIM=1 python -m pytest -q -p no:cacheprovider tests/cuda

    leg "source distribution, and the wheel made from it"
    python -m build --outdir "$scratch/dist" . >"$scratch/build.log" 2>&1 ||
        { cat "$scratch/build.log"; exit 1; }
    ls "$scratch/dist"

    leg "kernels with bounds checks"
    FASTVIS_CYTHON_DEBUG=1 python -m pip -qq --disable-pip-version-check install \
        --no-deps --target "$scratch/checked" "$scratch"/dist/fastvis-*.tar.gz
    cp -r tests pyproject.toml "$scratch/checked"
    (cd "$scratch/checked" && NUMBA_BOUNDSCHECK=1 python -m pytest -q tests/kernels)

    leg "the wheel in an empty environment"
    python -m venv "$scratch/venv"
    "$scratch/venv/bin/python" -m pip -qq --disable-pip-version-check install \
        "$scratch"/dist/fastvis-*.whl
    extensions=$(find fastvis/_kernels -name '_*.pyx' | sed 's/\.pyx$//; s:/:.:g')
    cd "$scratch"
    "$scratch/venv/bin/fastvis" --help
    "$scratch/venv/bin/python" - $extensions <<'PYTHON'
import importlib
import sys

import numpy as np

import fastvis
from fastvis.textures import FilterBank, GramModel

for extension in sys.argv[1:]:
    importlib.import_module(extension)
bank = FilterBank.random(sizes=(3, 5), n_maps=4, rng=0)
image = np.random.default_rng(0).random((16, 16, 3))
gram = GramModel(bank).gram(image)
assert gram.shape == (8, 8) and np.isfinite(gram).all() and np.allclose(gram, gram.T)
print(f"fastvis {fastvis.__version__} works from {fastvis.__path__[0]}")
PYTHON
}

set -m # a process group of its own, to be ended as one
other_legs </dev/null >"$scratch/other.log" 2>&1 &
set +m
trap 'kill -- -$! 2>/dev/null || true; rm -rf "$scratch"' EXIT

leg "style"
ruff check

leg "tests and doctests"
readme=()
if [[ ${README_DOCTEST:-1} == 1 && -f README.md ]]; then
    readme=(README.md --doctest-glob=README.md)
fi
pytest -q tests fastvis "${readme[@]}"

status=0
wait $! || status=$?
cat "$scratch/other.log"
[[ $status == 0 ]]
printf '\n== all passed\n'
