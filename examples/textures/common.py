"""What the texture figures share: photographs, the command line, models, pictures and tables."""

import argparse
import io
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from skimage import data
from skimage.transform import downscale_local_mean

from fastvis.textures import IMAGENET_MEAN, FilterBank, GramModel, metrics, synthesize

# Squares of photographs that scikit-image carries, none of them downloaded:
# name -> (photograph, top, left, side, pixels averaged in each direction)
TEXTURES = {
    "brick": (data.brick, 0, 0, 512, 2),
    "gravel": (data.gravel, 0, 0, 512, 2),
    "grass": (data.grass, 0, 0, 512, 2),
    "coins": (data.coins, 0, 20, 302, 2),
    "gland": (data.immunohistochemistry, 50, 40, 128, 1),
    "stars": (data.hubble_deep_field, 330, 330, 512, 2),
    "wood": (data.coffee, 278, 470, 120, 1),
    "fur": (data.chelsea, 0, 140, 86, 1),
    "print": (data.page, 44, 60, 100, 1),
    "lawn": (data.camera, 400, 404, 108, 1),
    "vessels": (data.retina, 850, 500, 400, 2),
    "moon": (data.moon, 130, 0, 256, 1),
    "writing": (data.text, 0, 200, 172, 1),
}

SCALES = (3, 5, 7, 11, 15, 23, 37, 55)  # filter sizes of the multi-scale model


def photograph(name, size=None):
    """A texture as float32 RGB, (size, size, 3); smaller where the photograph is."""
    load, top, left, side, factor = TEXTURES[name]
    image = np.atleast_3d(load()[top : top + side, left : left + side] / 255)
    image = downscale_local_mean(image, (factor, factor, 1))[:size, :size]
    return np.broadcast_to(image, (*image.shape[:2], 3)).astype(np.float32)


def other_photographs():
    """What filters are learned from: photographs that are not among the textures."""
    images = (data.astronaut(), data.rocket(), data.stereo_motorcycle()[0], data.chelsea())
    return [downscale_local_mean(image / 255, (2, 2, 1)).astype(np.float32) for image in images]


def arguments():
    """The command line: .full, .vgg (a VGGLoss or None), .out (a folder or None)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="the sizes of the paper; hours")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="state dict of torchvision's vgg19, such as vgg19.pth: adds the VGG model",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the picture there instead of showing it"
    )
    args = parser.parse_args()
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    args.vgg = None
    if args.weights is not None:
        from fastvis.textures import VGGLoss  # imports torch

        args.vgg = VGGLoss(args.weights)
    return args


def random_model(n_maps, sizes=SCALES, nonlinearity="relu"):
    """Random filters, ``n_maps`` of each size, as the paper has them."""
    return GramModel(FilterBank.random(sizes, n_maps, rng=0), nonlinearity, mean=IMAGENET_MEAN)


def grow(label, reference, model, **options):
    """A new texture from noise; prints how it went."""
    start = time.perf_counter()
    result = synthesize(reference, model, **{"rng": 1, **options})
    seconds = time.perf_counter() - start
    print(
        f"{label:32} loss {result.losses[0]:.2g} -> {result.loss:.2g}  "
        f"{result.n_iter} iterations ({result.stopped_by}), {seconds:.0f} s",
        flush=True,
    )
    return result.image


def heldout(image, reference):
    """Relative error (5) of the Gram matrix of random filters that were not matched, of 8 sizes."""
    return metrics.heldout_gram_error(image, reference, sizes=SCALES)


def table(header, rows):
    """Print rows of cells, floats with two digits."""
    rows = [[f"{x:.2g}" if isinstance(x, float) else str(x) for x in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(header, *rows))
    line = "  ".join([f"{{:{first}}}", *(f"{{:>{width}}}" for width in others)])
    print(line.format(*header))
    for row in rows:
        print(line.format(*row))
    print(flush=True)


def grid(rows, row_labels=None, column_labels=None, *, inches=1.1, title=None):
    """A figure of images; rows hold an image, (image, caption), or None for an empty place."""
    n_columns = max(map(len, rows))
    captions = any(isinstance(cell, tuple) for row in rows for cell in row)
    size = (inches * n_columns + 0.3, (inches + 0.18 * captions) * len(rows) + 0.5)
    figure, axes = plt.subplots(
        len(rows), n_columns, figsize=size, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    for i, row in enumerate(rows):
        for j, ax in enumerate(axes[i]):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            cell = row[j] if j < len(row) else None
            if cell is not None:
                image, caption = cell if isinstance(cell, tuple) else (cell, "")
                ax.imshow(image, vmin=0, vmax=1)
                ax.set_xlabel(caption, fontsize=7, labelpad=2)
            if i == 0 and column_labels is not None and j < len(column_labels):
                ax.set_title(column_labels[j], fontsize=8)
            if j == 0 and row_labels is not None:
                ax.set_ylabel(row_labels[i], fontsize=8)
    if title is not None:
        figure.suptitle(title, fontsize=9)
    return figure


def finish(figure, name, args):
    """Show the figure, or write it to ``--out`` as a PNG of 256 colors."""
    if args.out is None:
        plt.show()
        return
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    path = args.out / f"{name}.png"
    Image.open(buffer).convert("RGB").quantize(256).save(path, optimize=True)
    print(f"{path} written")
