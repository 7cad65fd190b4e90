"""What the figures of deep Gaussian processes share: the command line, tables and pictures."""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt


def arguments(full=None):
    """The command line: .out (a folder or None), and .full where ``full`` says what it does."""
    parser = argparse.ArgumentParser()
    if full is not None:
        parser.add_argument("--full", action="store_true", help=full)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the picture there instead of showing it"
    )
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    return args


def table(header, rows):
    """Print rows of cells, floats with three digits."""
    rows = [[f"{x:.3g}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(header, *rows))
    line = "  ".join([f"{{:{first}}}", *(f"{{:>{width}}}" for width in others)])
    print(line.format(*header))
    for row in rows:
        print(line.format(*row))
    print(flush=True)


def letter(ax, text):
    """Name a panel."""
    ax.text(-0.02, 1.03, text, transform=ax.transAxes, ha="right", va="bottom", weight="bold")


def finish(figure, name, args):
    """Show the figure, or write it to ``--out``."""
    if args.out is None:
        plt.show()
        return
    path = args.out / f"{name}.png"
    figure.savefig(path, dpi=110)
    print(f"{path} written")
