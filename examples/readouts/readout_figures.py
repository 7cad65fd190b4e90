"""What the readout figures share: the command line, angles, images, pictures and tables."""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np


def arguments():
    """The command line: .full, .out (a folder or None)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="the sizes of the paper; longer")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the picture there instead of showing it"
    )
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    return args


def angle_errors(angles, truth, labels):
    """How far angles are off, in degrees, (n_neurons,); each type may be turned as a whole."""
    off = np.exp(1j * (angles - truth))
    for label in np.unique(labels):
        members = labels == label
        off[members] /= off[members].mean()  # away from where the circle is cut
        off[members] *= np.exp(-1j * np.median(np.angle(off[members])))
    return np.degrees(np.abs(np.angle(off)))


def table(header, rows):
    """Print rows of cells, floats with two digits."""
    rows = [[f"{x:.2g}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(header, *rows))
    line = "  ".join([f"{{:{first}}}", *(f"{{:>{width}}}" for width in others)])
    print(line.format(*header))
    for row in rows:
        print(line.format(*row))
    print(flush=True)


def mosaic(ax, images, title, n_columns=4):
    """Images (n, H, W) side by side, gray at 0, each at its own contrast."""
    images = images[:, 3:-3, 3:-3]  # gray in all of them
    n, height, width = images.shape
    n_rows = max(n_columns, -(-n // n_columns))
    shown = np.full((n_rows, n_columns, height + 1, width + 1), np.nan)
    shown.reshape(-1, height + 1, width + 1)[:n, :-1, :-1] = images / np.abs(images).max(
        axis=(1, 2), keepdims=True
    )
    shown = shown.transpose(0, 2, 1, 3).reshape(n_rows * (height + 1), -1)
    ax.imshow(shown[:-1, :-1], cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=8)
    ax.axis("off")


def finish(figure, name, args):
    """Show the figure, or write it to ``--out``."""
    if args.out is None:
        plt.show()
        return
    path = args.out / f"{name}.png"
    figure.savefig(path, dpi=110)
    print(f"{path} written")
