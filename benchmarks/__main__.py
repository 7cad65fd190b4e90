"""Print one table of all comparisons, and keep it in benchmarks/results.

    python -m benchmarks                        every row
    python -m benchmarks float64 synthesis      the rows whose names contain one of these
    python -m benchmarks --quick                a smoke run; its numbers mean nothing

All rows take a quarter of an hour on two cores.
"""

import argparse
import pkgutil
import sys
from importlib import import_module
from pathlib import Path

from fastvis._kernels.threads import thread_count

from .common import machine, use_threads

HERE = Path(__file__).parent
HEADER = """\
| | peer | fastvis | peer time | faster | memory | peer memory | less | floor | over floor \
| error | peer error |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
LEGEND = """\
Times are medians, of the two in turn in one process with equal threads; *faster* is the median of
peer / fastvis over neighboring calls. *Memory* is the most that a first call takes in a fresh
process, above what imports and inputs take. *Floor* is the time of the dense products alone (Gram
loss: N^2 M flops, gradient: 2 N^2 M more; all pairs: 3 N^2 D; block-tridiagonal matrices and deep
GPs: `flops` in their files) at the rate of a plain product; of dead leaves that of copying the
bytes, of covariances that of their exponentials, twice. *Over floor* is the time as a multiple of
it. *Error* is the largest error over the largest value, on noise and with linear maps, of float32
against float64; of float64 against the definition, on a small image.
"""


def main():
    arguments = parse()
    use_threads(arguments.threads)
    failed = False
    lines = []
    for name, row in select(arguments.row, arguments.quick):
        if arguments.list:
            print(name)
            continue
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        try:
            lines.append(line(name, row()))
            print("done", file=sys.stderr)
        except Exception as error:  # the other rows are worth having
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            failed = True
    if lines:
        quick = arguments.quick
        table = HEADER + "".join(lines) + "\n" + LEGEND + "\n" + machine(1 if quick else 7)
        table = "A smoke run: the numbers mean nothing.\n\n" * quick + table
        print(table)
        keep = arguments.name or (None if arguments.quick or arguments.row else "table")
        if keep:
            path = HERE / "results" / f"{keep}.md"
            path.parent.mkdir(exist_ok=True)
            path.write_text(table)
    return int(failed)


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Compare fastvis with its peers, in one table."
    )
    parser.add_argument("row", nargs="*", help="a part of the names of the rows wanted")
    parser.add_argument("--list", action="store_true", help="only print the names of the rows")
    parser.add_argument("--quick", action="store_true", help="a smoke run with tiny sizes")
    parser.add_argument("--threads", type=int, default=thread_count(), help="for all contenders")
    parser.add_argument(
        "--name",
        help="keep the table as benchmarks/results/NAME.md; 'table' by default when all rows run",
    )
    return parser.parse_args()


def select(parts, quick):
    """Yields name and function of the rows wanted, over all bench_*.py."""
    for module in pkgutil.iter_modules([str(HERE)], "benchmarks."):
        if module.name.startswith("benchmarks.bench_"):
            for name, row in import_module(module.name).rows(quick):
                if not parts or any(part in name for part in parts):
                    yield name, row


# One line of the table


def line(name, row):
    cells = (
        name,
        row.peer or "",
        duration(row.seconds),
        duration(row.peer_seconds),
        factor(row.ratio and 1 / row.ratio),
        size(row.memory),
        size(row.peer_memory),
        factor(row.memory and row.peer_memory and row.peer_memory / row.memory),
        duration(row.floor_seconds),
        factor(row.floor_ratio),
        power(row.error),
        power(row.peer_error),
    )
    return "| " + " | ".join(cells) + " |\n"


def duration(seconds):
    if seconds is None:
        return ""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def size(n_bytes):
    if n_bytes is None:
        return ""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"


def factor(ratio):
    if ratio is None:
        return ""
    return f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"


def power(error):
    return "" if error is None else f"{error:.0e}"


if __name__ == "__main__":
    sys.exit(main())
