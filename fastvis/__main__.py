"""The command ``fastvis``."""

import argparse
import sys
from pathlib import Path

import numpy as np

from . import __version__


def main(arguments=None):
    """Run the command; returns its exit status: 0, or 2 for a bad argument or file."""
    parser = argparse.ArgumentParser(prog="fastvis", description="Computational vision science.")
    parser.add_argument("--version", action="version", version=f"fastvis {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_texture(commands)
    _add_atlas(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, ArithmeticError, OSError, MemoryError, ImportError) as error:
        print(f"fastvis: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"fastvis: interrupted, {options.interrupted}", file=sys.stderr)
        return 130
    return 0


def _add_texture(commands):
    parser = commands.add_parser(
        "texture",
        help="grow a new texture from a photograph",
        description="Grow a new texture with the statistics of a photograph.",
    )
    parser.add_argument("photo", help="image file")
    parser.add_argument("-o", "--output", required=True, help="image file to write")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="of the new texture"
    )
    parser.add_argument(
        "--reference-size", type=int, default=256, metavar="N",
        help="the photograph's center is reduced to N x N at most (default 256)",
    )  # fmt: skip
    parser.add_argument("--maps", type=int, default=32, help="filters of each of 8 sizes (32)")
    parser.add_argument("--iterations", type=int, default=500, help="at most (default 500)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same file (0)")
    parser.add_argument("--tile", action="store_true", help="make edges that meet")
    parser.set_defaults(run=_texture, interrupted="nothing was written")


def _texture(options):
    from ._images import check_writable, load_image, save_image
    from ._random import check_rng
    from ._validation import check_int, check_size
    from .textures.arguments import check_extent, default_model
    from .textures.synthesis import synthesize

    check_writable(options.output)
    size = None if options.size is None else check_size(options.size, "--size")
    check_int(options.iterations, "--iterations", minimum=1)
    check_int(options.maps, "--maps", minimum=1)
    n = check_int(options.reference_size, "--reference-size", minimum=16)
    rng = check_rng(check_int(options.seed, "--seed", minimum=0))
    reference = _reduce(load_image(options.photo), n)

    check_extent(reference.shape, "the photograph")
    padding = "periodic" if options.tile else "zero"
    model = default_model(reference, rng, "the photograph", options.maps, padding)
    result = synthesize(
        reference, model, size=size, max_iter=options.iterations, rng=rng, progress=True
    )
    save_image(options.output, result.image)
    print(f"{options.output}: {result}")


def _reduce(image, n):
    """The center square, reduced to n x n if it is larger."""
    from PIL import Image

    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    image = image[top : top + side, left : left + side]
    if side <= n:
        return image
    channels = [
        Image.fromarray(channel).resize((n, n), Image.Resampling.LANCZOS, reducing_gap=3)
        for channel in image.transpose(2, 0, 1)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 1)


def _add_atlas(commands):
    parser = commands.add_parser(
        "atlas",
        help="make the functional atlas of recorded neurons",
        description="Fit a model to recorded neurons, and make their functional atlas: one page, "
        "index.html, and an array file for each analysis. A run that was interrupted goes on.",
    )
    parser.add_argument(
        "data", nargs="+", metavar="DATA",
        help="HDF5 file, or folder or zip file of Sensorium; or the word simulated",
    )  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--preset", choices=("smoke", "cpu", "gpu"), default="cpu",
        help="sizes of everything: to try it out, for small images, or the paper's (cpu)",
    )  # fmt: skip
    parser.add_argument("--clusters", type=int, metavar="N", help="by default the preset's")
    parser.add_argument(
        "--block", type=int, metavar="N", help="average images of Sensorium over N x N pixels"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.set_defaults(run=_atlas, interrupted="the same command goes on from here")


def _atlas(options):
    from ._validation import check_int
    from .twin import atlas_page  # noqa: F401  what is missing is said before any work
    from .twin.atlas_stages import atlas, check_tested
    from .twin.presets import PRESETS, read_recording

    preset, seed = PRESETS[options.preset], check_int(options.seed, "--seed", minimum=0)
    clusters = {}
    if options.clusters is not None:
        clusters["n_clusters"] = check_int(options.clusters, "--clusters", minimum=1)
    if options.data == ["simulated"]:
        recordings = [preset.simulate(seed)]
    else:
        recordings = [read_recording(path, options.block, seed) for path in options.data]
    for recording in recordings:
        print(recording, file=sys.stderr)
    check_tested(recordings)
    model = preset.train(recordings, options.output, seed, progress=sys.stdout.isatty())
    arguments = preset.arguments(model.image_size_, seed) | clusters
    result = atlas(model, recordings, options.output, **arguments)
    print(f"{Path(options.output) / 'index.html'}: {result}")


if __name__ == "__main__":
    sys.exit(main())
