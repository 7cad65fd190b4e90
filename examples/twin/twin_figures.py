"""What the figures of the twin share: the command line, the simulated cortex and its atlas."""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from fastvis.twin import Gabors, atlas, atlas_figures, hermite_basis, rotate_coefficients
from fastvis.twin.atlas_figures import cropped, embedding, gray, mosaic  # noqa: F401
from fastvis.twin.presets import PRESETS

plt.rcParams.update(atlas_figures.STYLE)
FOLDER = Path.home() / ".cache" / "fastvis"


def arguments():
    """The command line: .full, .seed, .atlas (a folder), .out (a folder or None)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true", help="preset cpu, not smoke; much longer")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    parser.add_argument(
        "--atlas", type=Path, metavar="DIR", help="of the model and its atlas; made if not there"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write pictures there instead of showing them"
    )
    args = parser.parse_args()
    args.preset = "cpu" if args.full else "smoke"
    if args.atlas is None:
        args.atlas = FOLDER / f"twin-{args.preset}-{args.seed}"
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    return args


def twin(args):
    """The simulated cortex's `Recording`, a model of it, and the `Atlas`; what is there is kept."""
    preset = PRESETS[args.preset]
    recording = preset.simulate(args.seed)
    model = preset.train([recording], args.atlas, args.seed, progress=sys.stderr.isatty())
    options = preset.arguments(model.image_size_, args.seed)
    return recording, model, atlas(model, [recording], args.atlas, **options)


def grid_of(args, recording):
    """The `GaborGrid` of the preset."""
    return PRESETS[args.preset].arguments(recording.images.shape[1:], args.seed)["grid"]


def fields_of(cortex):
    """The Gabors that simulated neurons are made of; they must all have an orientation."""
    return Gabors(
        cortex.centers, cortex.sigmas, cortex.frequencies, cortex.orientations, cortex.phases, 2.0
    )


class CentralNeurons:
    """What neurons of any readouts (n, n_features, n_orientations) at the central pixel would do.

    Their bias is the mean of the model's.
    """

    def __init__(self, model):
        module = model.module_
        self.core = module.core.export(padding="valid")
        self.side = module.core.receptive_field
        self.corner = [(n - self.side) // 2 for n in model.image_size_]
        self.n_orientations = module.core.n_orientations
        self.bias = module.readouts[0].biases.mean().item()

    def patches(self, images):
        """What they see of z-scored images (n_images, H, W)."""
        y, x = self.corner
        return images[:, y : y + self.side, x : x + self.side]

    def features(self, patches):
        """(n_images, n_features, n_orientations)"""
        x = torch.from_numpy(np.ascontiguousarray(patches))[:, None]
        with torch.no_grad():
            found = self.core(x)[:, :, 0, 0].numpy()
        return found.reshape(len(found), self.n_orientations, -1).transpose(0, 2, 1)

    def responses(self, features, readouts):
        """(n_images, n)"""
        return np.logaddexp(0, np.einsum("ifo,nfo->in", features, readouts) + self.bias)


def turned(images, angles):
    """`ClusterMEIs` (n, side, side), each by its angle, counter-clockwise, without loss."""
    side = images.shape[-1]
    rank = round(2 * side / 3)  # that they are made of
    basis = hermite_basis(side)[: rank * (rank + 1) // 2]
    flat = basis.reshape(len(basis), -1)
    coefficients = np.linalg.lstsq(flat.T, images.reshape(len(images), -1).T)[0].T
    return np.tensordot(rotate_coefficients(coefficients, angles), basis, 1)


def table(header, rows):
    """Print rows of cells, floats with two digits, in Markdown."""
    print(f"| {' | '.join(header)} |")
    print(f"|---|{'--:|' * (len(header) - 1)}")
    for row in rows:
        print(f"| {' | '.join(f'{x:.2f}' if isinstance(x, float) else str(x) for x in row)} |")
    print(flush=True)


def finish(figure, name, args):
    """Show the figure, or write it to ``--out``."""
    if args.out is None:
        plt.figure(figure)  # pyplot knows nothing of those of an atlas
        plt.show()
        return
    path = args.out / f"{name}.png"
    figure.savefig(path, dpi=110)
    print(f"{path} written")
