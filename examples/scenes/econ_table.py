"""
The table of ECON, seed by seed
===============================

Trains a model for each seed, measures it on 500 new scenes, and writes a Markdown table and a JSON
file: one row a seed, medians last, and the share of good seeds, which have an ARI-FG and a depth
order accuracy of at least 0.9 and an expert-class NMI of at least 0.8::

    python examples/scenes/econ_table.py --preset cpu --seeds 0 1 2 3 4 --folder models
    python examples/scenes/econ_table.py --folder models --model monet
    python examples/scenes/econ_table.py --folder models --colors random
    python examples/scenes/econ_table.py --folder models --warmup-steps 0

Trainings go on from their checkpoints, and finished ones are not repeated: seeds may also be
trained by several processes, and put together by a last one. Where both models are in the folder,
the rows of Table 1 of the paper follow as measured for both, next to what the paper says about the
others: take scenes apart, paint scenes like the training's, ask for objects in new combinations,
and the time that inference takes (von Kügelgen, Ustyuzhaninov et al., ICLR 2020 workshop).

Columns: ari_fg, ari, covering, order, nmi, amodal and mse as `econ_models.evaluate` explains them;
shape, color and clean are the shares of objects in new scenes that are of the class that was asked
for, by their outline, by their color, and with an outline that fits with an IoU of 0.8; coherent is
the share of new scenes with one clean object of each class. The first of two numbers is for latents
of the prior, the second for those of a Gaussian like that of latents found in 500 other scenes.
"""

# %%

import argparse
import json
from pathlib import Path

import numpy as np
from econ_figures import cell
from econ_models import (
    CLASSES,
    KINDS,
    TRAINING,
    add_options,
    evaluate,
    make_scenes,
    mean,
    trained,
)
from econ_shapes import generate, recombine

from fastvis.scenes import MONet, metrics
from fastvis.scenes.econ.warmup import pixel_colors

LIKE = 3  # seed of the scenes whose latents new ones are like
DECOMPOSED = ("ari_fg", "ari", "covering", "order", "nmi", "amodal", "mse")
PAINTED = ("shape", "color", "clean", "coherent")
LEAST = {"ari_fg": 0.9, "order": 0.9, "nmi": 0.8}

# Decompose, generate, recombine, amortized inference: what Table 1 of the paper says.
QUOTED = {
    "MONet": (True, False, False, True),
    "IODINE": (True, False, False, True),
    "GENESIS": (True, True, False, True),
    "M-RBM": (True, True, True, False),
    "ECON": (True, True, True, True),
}


def command_line():
    parser = argparse.ArgumentParser(description="The table of ECON, or of its rival.")
    add_options(parser)
    parser.add_argument("--folder", type=Path, help="where models are kept; as --models")
    parser.add_argument("--model", choices=KINDS[:2], default="econ")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(5)])
    parser.add_argument("--seconds", type=float, help="of training a seed; the schedule by default")
    parser.add_argument("--warmup-steps", type=int, help="of ECON; the preset's by default")
    args = parser.parse_args()
    if args.model == "monet" and args.warmup_steps is not None:
        parser.error("--warmup-steps is for --model econ")
    args.folder = args.folder or args.models
    return args


def measure(run, args):
    """One row of the table, as a dict, of numbers that JSON holds."""
    model = run.model
    scenes, like = make_scenes(500, args), make_scenes(500, args, LIKE).images
    scores, parts = evaluate(model, scenes)
    ways = {"prior": None} if isinstance(model, MONet) else {"prior": None, "images": like}
    for way, images in ways.items():
        asked = recombine(model, scenes, parts, like=images)
        new = generate(model, scenes, parts, like=images)
        scores[way] = {name: (asked | new)[name] for name in PAINTED}
        scores[way]["confusion"] = asked["confusion"]
        scores["true_coherent"] = new["true"]
    defined = {k: v for k, v in LEAST.items() if not np.isnan(scores[k])}
    return scores | dict(
        good=all(scores[name] >= least for name, least in defined.items()),
        steps=run.steps,
        training_seconds=run.seconds,
        stopped_by=run.stopped_by,
        n_parameters=sum(p.numel() for p in model.module_.parameters()),
    )


def colors_alone(args):
    """What the colors of pixels tell without a model: a sentence.

    Four K-means colors, as the warm-up takes them; segments are pixels of one color.
    """
    scenes = make_scenes(500, args)
    colors = pixel_colors(make_scenes(2000, args, TRAINING).images, len(CLASSES) + 1, 0)
    pixels = scenes.images[..., None, :] / 255
    found = np.square(pixels - colors).sum(axis=-1).argmin(axis=-1)
    ari_fg, ari = (
        mean(metrics.adjusted_rand_index(scenes.labels, found, foreground=foreground))
        for foreground in (True, False)
    )
    classes = np.concatenate([np.full((len(scenes), 1), -1), scenes.table["shape"]], axis=1)
    classes = classes[np.arange(len(scenes))[:, None, None], scenes.labels]
    nmi = metrics.expert_class_nmi(found, np.where(classes < 0, len(CLASSES), classes))
    return (
        f"K-means of the colors of pixels alone: ARI-FG {cell(ari_fg)}, ARI {cell(ari)}, NMI of "
        f"pixels {cell(nmi)}; no depth order, no whole shapes, no new scenes"
    )


# %%
# A row is a list of cells; pairs of numbers are those of the two kinds of latents.


def cells(row):
    ways = [row[way] for way in ("prior", "images") if way in row]
    painted = [" / ".join(cell(way[name]) for way in ways) for name in PAINTED]
    share = " ".join(cell(x) for x in row["share"])
    training = [str(row["steps"]), f"{row['training_seconds'] / 60:.0f}"]
    good = {True: "yes", False: "no"}.get(row["good"], row["good"])
    return [*(cell(row[name]) for name in DECOMPOSED), share, *painted, *training, good]


def median(rows):
    """Medians of all numbers, and the share of good seeds."""
    names = [*DECOMPOSED, "steps", "training_seconds"]
    middle = {name: float(np.median([row[name] for row in rows])) for name in names}
    middle["steps"] = int(middle["steps"])
    for way in ("prior", "images"):
        if way in rows[0]:
            middle[way] = {
                name: float(np.median([row[way][name] for row in rows])) for name in PAINTED
            }
    n_good = sum(row["good"] for row in rows)
    return middle | {"share": [], "good": f"{n_good} of {len(rows)}"}


def markdown(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"


def seeds_table(results):
    header = ["seed", *DECOMPOSED, "scenes of each expert", *PAINTED, "steps", "min", "good"]
    rows = [[seed, *cells(row)] for seed, row in sorted(results.items(), key=lambda x: int(x[0]))]
    return markdown(header, [*rows, ["median", *cells(median(list(results.values())))]])


def paper_table(econ, monet):
    """Table 1: measured medians for two models, and what the paper says about all."""
    both = [median(list(x.values())) for x in (monet, econ)]
    ways = ("prior", "images")
    new = [[" / ".join(cell(m[w][name]) for w in ways if w in m) for m in both]
           for name in ("coherent", "clean")]  # fmt: skip
    seconds = [float(np.median([r["seconds"] for r in x.values()])) for x in (monet, econ)]
    measured = {
        "decompose (ARI-FG, error of the reconstruction)": [
            f"{cell(m['ari_fg'])}, {cell(m['mse'])}" for m in both
        ],
        "generate (scenes with one clean object of each class)": new[0],
        "recombine (clean objects of the class asked for)": new[1],
        "amortized inference (ms a scene)": [f"{1000 * s:.1f}" for s in seconds],
    }
    marks = [["yes" if QUOTED[name][i] else "no" for name in QUOTED] for i in range(4)]
    header = ["", "MONet, measured", "ECON, measured", *(f"{name}, paper" for name in QUOTED)]
    return markdown(header, [[k, *v, *m] for (k, v), m in zip(measured.items(), marks)])


def write(path, text):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def main():
    args = command_line()
    changes = {} if args.warmup_steps is None else {"warmup_steps": args.warmup_steps}
    results, folder = {}, None
    for seed in args.seeds:
        run = trained(args.model, args, seed, args.folder, args.seconds, **changes)
        folder = run.folder.parent
        results[str(seed)] = measure(run, args)
        text = seeds_table(results)
        write(folder / "table.json", json.dumps(results, indent=1))
        write(folder / "table.md", text)
        print(f"\n{folder.name}\n\n{text}", flush=True)
    true = results[str(args.seeds[0])]["true_coherent"]
    notes = f"Of true scenes {true:.2f} are coherent by the same measure. {colors_alone(args)}.\n"
    write(folder / "table.md", f"{text}\n{notes}")
    print(notes)
    rival = "monet" if args.model == "econ" else "econ"
    other = args.folder / folder.name.replace(args.model, rival, 1) / "table.json"
    if not changes and other.is_file():
        others = json.loads(other.read_text())
        pair = (results, others) if args.model == "econ" else (others, results)
        text = paper_table(*pair)
        write(args.folder / f"{folder.name.split('-', 1)[1]}-table1.md", text)
        print(f"\n{text}")


if __name__ == "__main__":
    main()
