"""Models of scenes for the examples: trained once and kept, and what they are worth.

A model lies in ``FOLDER/<kind>-<colors>-<preset>/seed-<seed>``, with what is not the default
added to its name. It is trained by the script that needs it first; a training that was interrupted
goes on from its last checkpoint, and one that was shorter than asked for goes on as well. The
folder is ``--models``, else the environment variable FASTVIS_MODELS, else ``fastvis-models`` in the
folder for caches.

Objects are as `sprites` draws them, of varied sizes. The latents of the paper, two for a place and
three for a color, suggest ``--sizes one``.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fastvis.scenes import ECON, MONet, metrics, sprites
from fastvis.scenes.econ import PRESETS

CLASSES = ("circle", "square", "triangle")
BACKGROUND = len(CLASSES)  # as the number of a class
RADIUS = 0.2  # of the circle around an object, in sizes of the image
SIZE = {"smoke": 32, "cpu": 32, "gpu": 64}
N_IMAGES = {"smoke": 1000, "cpu": 20_000, "gpu": 50_000}
SECONDS = {"smoke": 20, "cpu": 600, "gpu": 3600}  # what the figures train for
KINDS = ("econ", "monet", "single")

VALIDATION, TEST, TRAINING = 1, 2, 1000  # seeds of scenes, of which no two share one


def arguments(**defaults):
    """The command line of the figures: .seed .seconds .latents .out, and those of all scripts."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the model")
    parser.add_argument(
        "--seconds", type=float, help="train for so long if needed; 20, 600, 3600 for the presets"
    )
    parser.add_argument(
        "--latents",
        choices=("images", "prior"),
        default="images",
        help="new objects from a Gaussian like that of latents found in images, or from the prior",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the picture there instead of showing it"
    )
    parser.set_defaults(**defaults)
    args = parser.parse_args()
    if args.seconds is None:
        args.seconds = SECONDS[args.preset]
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
    return args


def add_options(parser):
    """What the figures and the table have in common."""
    parser.add_argument("--preset", choices=tuple(SIZE), default="cpu")
    parser.add_argument("--colors", choices=("by_class", "random"), default="by_class")
    parser.add_argument("--sizes", choices=("varied", "one"), default="varied", help="of objects")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = Path(os.environ.get("FASTVIS_MODELS", cache / "fastvis-models"))
    parser.add_argument(
        "--models", type=Path, metavar="DIR", default=folder, help="where models are kept"
    )


# Scenes


def make_scenes(n, data, rng=TEST, **options):
    """Sprites of a data set: ``data`` has .preset .colors .sizes, as the command line."""
    size = SIZE[data.preset]
    radius = (RADIUS * size, RADIUS * size) if data.sizes == "one" else None
    return sprites(n, size=size, radius=radius, colors=data.colors, rng=rng, **options)


def seen(scenes, least=0.2):
    """Scenes in which so much of each object is seen; what is hidden cannot be found."""
    area = scenes.shapes.sum(axis=(2, 3))
    return scenes[(scenes.visibility >= least * area).all(axis=1)]


def repaint(scenes, colors):
    """Scenes with the background and the objects in new colors, (n, K + 1, 3) in [0, 255]."""
    colors = np.asarray(colors).round().astype(np.uint8)
    images = colors[np.arange(len(scenes))[:, None, None], scenes.labels]
    return replace(scenes, images=images, table={**scenes.table, "color": colors[:, 1:]})


def palette(scenes):
    """Colors of the background and of the objects, (n, K + 1, 3), in [0, 255]."""
    blank = (scenes.labels == 0).reshape(len(scenes), -1).argmax(axis=1)
    background = scenes.images.reshape(len(scenes), -1, 3)[np.arange(len(scenes)), blank]
    return np.concatenate([background[:, None], scenes.table["color"]], axis=1).astype(float)


def true_regions(scenes):
    """What is seen of each object, front first, then of the background, (n, K + 1, H, W)."""
    names = np.concatenate([scenes.order[:, ::-1] + 1, np.zeros((len(scenes), 1), int)], axis=1)
    return scenes.labels[:, None] == names[:, :, None, None]


# Training


@dataclass
class Run:
    """A trained model, how long its training took, and why it ended; history: step, loss, s."""

    model: object
    folder: Path
    history: list = field(default_factory=list)
    stopped_by: str | None = None

    @property
    def steps(self):
        return int(self.history[-1][0]) if self.history else 0

    @property
    def seconds(self):
        return self.history[-1][2] if self.history else 0.0


def load(args, kind="econ", **changes):
    """The model that a figure asks for, trained if it is not there; prints which it is."""
    run = trained(kind, args, args.seed, args.models, args.seconds, **changes)
    print(
        f"{run.folder.parent.name}, seed {args.seed}: {run.steps} steps in {run.seconds:.0f} s, "
        f"stopped by {run.stopped_by}\n"
    )
    return run.model


def trained(kind, data, seed, folder, seconds=None, **changes):
    """Return the `Run` of a model: kept, continued, or new.

    Parameters
    ----------
    kind : {"econ", "monet", "single"}
        "single": one expert that is given the true regions.
    data
        Has .preset .colors .sizes.
    seconds : float, optional
        In all, earlier trainings among them. The schedule may end it before.
    **changes
        Of the parameters of the preset.
    """
    sizes = ["one-size"] if data.sizes == "one" else []
    changed = [f"{name}={value}" for name, value in sorted(changes.items())]
    name = "-".join([kind, data.colors, data.preset, *sizes, *changed])
    folder = Path(folder) / name / f"seed-{seed}"
    model = make_model(kind, data.preset, data.colors, seed, **changes)
    run, path = Run(model, folder), folder / "model.safetensors"
    if (folder / "run.json").is_file():
        kept = json.loads((folder / "run.json").read_text())
        run.history, run.stopped_by = kept["history"], kept["stopped_by"]
    enough = seconds is not None and run.seconds >= seconds
    if path.is_file() and (run.stopped_by == "schedule" or enough):
        run.model = type(model).load(path)
        return run
    folder.mkdir(parents=True, exist_ok=True)
    _fit(run, data, seed, seconds, given_regions=kind == "single")
    run.model.save(path)
    _keep(run)
    if run.stopped_by == "interrupted":
        raise KeyboardInterrupt
    return run


def make_model(kind, preset, colors, seed, **changes):
    """A model before its training. The rival has the networks of one expert, and its training."""
    if kind == "monet":
        names = ("n_layers", "n_features", "attention_channels", "learning_rate", "batch_size")
        names += ("validate_every", "n_drops")
        parameters = PRESETS[preset][colors]
        shared = {name: parameters[name] for name in names if name in parameters}
        return MONet(len(CLASSES) + 1, rng=seed, **shared | changes)
    if kind == "single":
        changes = {"n_experts": 1, **changes}
    return ECON.preset(preset, colors, rng=seed, **changes)


def _fit(run, data, seed, seconds, given_regions):
    before, start = run.seconds, time.perf_counter()
    run.stopped_by = None

    def callback(step, loss):
        spent = before + time.perf_counter() - start
        # A checkpoint may be older than the last entry.
        run.history = [entry for entry in run.history if entry[0] < step] + [[step, loss, spent]]
        _keep(run)
        print(f"{run.folder.name}: step {step}, loss {loss:.1f}, {spent:.0f} s", flush=True)
        return seconds is not None and spent >= seconds

    training = make_scenes(N_IMAGES[data.preset], data, TRAINING + seed)
    regions = true_regions(training) if given_regions else None
    images, training = training.images, None  # the rest is large
    options = dict(checkpoints=run.folder, resume=True)
    if given_regions:
        options["regions"] = regions
    else:
        options["validation"] = make_scenes(100, data, VALIDATION).images
    run.model.set_params(callback=callback).fit(images, **options)
    run.stopped_by = run.model.stopped_by_


def _keep(run):
    """Write down how far a training is."""
    content = json.dumps({"stopped_by": run.stopped_by, "history": run.history})
    temporary = run.folder / "run.json.tmp"
    temporary.write_text(content)
    temporary.replace(run.folder / "run.json")


# Measures


def evaluate(model, scenes, n_steps=None):
    """How well a model takes scenes apart: a dict of means over images, and its `Decomposition`.

    ari_fg, ari
        Adjusted Rand index of pixels of objects, and of all pixels.
    covering, mean_covering
        Of the objects: best IoU, weighted by their sizes, and not.
    order
        Share of overlapping pairs in the right depth order.
    nmi
        Of experts and classes, the background being one; NaN for a model with one expert.
    amodal
        IoU of whole shapes, also where they are hidden.
    mse
        Of the reconstruction, images in [0, 1].
    share
        Of images in which each expert explains something.
    spare
        Share of pixels in steps that come after the background.
    seconds
        Of the decomposition, for an image.
    """
    start = time.perf_counter()
    parts = model.decompose(scenes.images, n_steps=n_steps)
    seconds = (time.perf_counter() - start) / len(scenes)
    true, found = scenes.labels, parts.labels
    n_experts = getattr(model, "n_experts", 1)
    nmi = metrics.expert_class_nmi(*experts_and_classes(parts, scenes))
    order = metrics.depth_order_accuracy(scenes.shapes, scenes.order, parts.shape, parts.order)
    scores = dict(
        ari_fg=mean(metrics.adjusted_rand_index(true, found)),
        ari=mean(metrics.adjusted_rand_index(true, found, foreground=False)),
        covering=mean(metrics.segmentation_covering(true, found)),
        mean_covering=mean(metrics.segmentation_covering(true, found, weighted=False)),
        order=mean(order),
        nmi=nmi if n_experts > 1 else float("nan"),
        amodal=mean(metrics.amodal_iou(scenes.shapes, parts.shape)),
        mse=float(np.square(parts.image - scenes.images / 255).mean()),
        share=shares(parts, n_experts),
        spare=mean(spare_pixels(parts, scenes)),
        seconds=seconds,
    )
    return scores, parts


def mean(values):
    """The mean of those that are defined, as a float."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def shares(parts, n_experts):
    """Share of images in which each expert explains something."""
    steps = np.arange(parts.winner.shape[1])
    used = (parts.labels[:, None] == steps[:, None, None]).any(axis=(2, 3))
    return [float(((parts.winner == k) & used).any(axis=1).mean()) for k in range(n_experts)]


def spare_pixels(parts, scenes):
    """Share of pixels in steps after that of the background, (n,)."""
    background = (parts.region * (scenes.labels == 0)[:, None]).sum(axis=(2, 3)).argmax(axis=1)
    return (parts.labels > background[:, None, None]).mean(axis=(1, 2))


def experts_and_classes(parts, scenes):
    """Which expert explains each object, and its class, (n, K + 1); the background comes last."""
    n, n_objects = scenes.order.shape
    labels = np.where(scenes.labels == 0, n_objects + 1, scenes.labels.astype(int))
    experts = parts.experts_of(labels, n_objects + 1)
    classes = np.concatenate([scenes.table["shape"], np.full((n, 1), BACKGROUND)], axis=1)
    return experts, classes


def class_experts(parts, scenes):
    """The expert that explains each class most often, (4,), the background's last."""
    experts, classes = experts_and_classes(parts, scenes)
    return np.array(
        [np.bincount(experts[(classes == c) & (experts >= 0)]).argmax() for c in range(4)]
    )


def expert_names(parts, scenes, n_experts):
    """What each expert explains most often, in words."""
    experts, classes = experts_and_classes(parts, scenes)
    names = (*CLASSES, "background")
    counts = [np.bincount(classes[(experts == k) & (classes >= 0)], minlength=4) for k in
              range(n_experts)]  # fmt: skip
    return [names[count.argmax()] if count.any() else "nothing" for count in counts]
