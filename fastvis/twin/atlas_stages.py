"""The functional atlas of a population: every analysis of a fitted model, stage by stage.

Each stage is written to a file of its own, as soon as it is done, together with a digest of all
that it depends on. A run that is started again takes what is there and still holds.
"""

import hashlib
import inspect
import json
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from .. import __version__
from .._files import replacing
from .._validation import check_array, check_choice, check_int
from ..readouts import RotationAligner, cluster, embed
from .experiments import (
    compare_stimuli,
    cross_orientation_inhibition,
    nonlinearity_index,
    orientation_tuning,
    phase_tuning,
    size_contrast_tuning,
)
from .families import DifferencesOfGaussians, Gabors
from .glm import PoissonGLM
from .optimal import DoGGrid, GaborGrid, search
from .recording import check_recordings
from .responding import Responder
from .scores import ceiling, correlation_to_average, oracle, single_trial_correlation
from .statistics import (
    combinations,
    compare_clusters,
    correlate_properties,
    count_modes,
    coverage,
    greedy_gabors,
    high_low,
)

STAGES = (
    "scores", "alignment", "gabors", "dogs", "meis", "cluster_meis", "tuning", "comparisons",
    "center", "statistics",
)  # fmt: skip
PROPERTIES = {  # the seven of Fig. 3, and how they are called there
    "cross_orientation": "cross-orientation inhibition",
    "phase_invariance": "phase invariance",
    "orientation": "orientation tuning",
    "suppression": "surround suppression",
    "gabor_vs_mei": "Gabor vs MEI",
    "gabor_vs_dog": "Gabor vs DoG",
    "nonlinearity": "non-linearity",
}
COMBINED = ("phase_invariance", "suppression", "cross_orientation")  # in Fig. 4C
NORMS = (6.0, 9.0, 12.0)  # of stimuli that are compared, z units; MEIs have 12
LEVELS = np.linspace(0, 1, 21)  # of the response to the optimal Gabor
SETS = (1, 10, 20)  # Gabors in the center of the image


@dataclass(frozen=True, eq=False, repr=False)
class Atlas:
    """What is known of each neuron and cluster; arrays by stage.

    Attributes
    ----------
    stages : dict of dict of ndarray
        By the names of `STAGES`.
    size : tuple of int, (H, W)
    """

    stages: dict
    size: tuple

    def __getitem__(self, stage):
        return self.stages[stage]

    @property
    def labels(self):
        """Cluster of each neuron, (n_neurons,)."""
        return self["alignment"]["labels"]

    @property
    def n_clusters(self):
        """How many clusters."""
        return int(self.labels.max()) + 1

    def gabors(self, of="cluster"):
        """`Gabors` of all neurons: those of their clusters, or of their own."""
        return _family(Gabors, self["gabors"], check_choice(of, "of", ("cluster", "neuron")))

    def dogs(self, of="cluster"):
        """`DifferencesOfGaussians` of all neurons: those of their clusters, or of their own."""
        check_choice(of, "of", ("cluster", "neuron"))
        return _family(DifferencesOfGaussians, self["dogs"], of)

    @property
    def properties(self):
        """The indices of Fig. 3 by name, (n_neurons,) each; names as in `PROPERTIES`."""
        tuning, compared = self["tuning"], self["comparisons"]
        return {name: (tuning if name in tuning else compared)[name] for name in PROPERTIES}

    @property
    def statistics(self):
        """Numbers of the analysis, of neurons, clusters and modes: a dict.

        A cluster of which a property is known of no neuron is taken to be like all neurons.
        """
        return json.loads(str(self["statistics"]["json"]))

    def __repr__(self):
        return f"Atlas({len(self.labels)} neurons, {self.n_clusters} clusters)"


def atlas(
    model, recordings, out_dir, *, n_clusters=50, grid=None, dog_grid=None, norms=NORMS,
    gabors="cluster", recipe="ecker", mei_options=None, glm=None, beta=None, progress=True, rng=0,
):  # fmt: skip
    """Make the functional atlas of a fitted model: arrays, and one page to look at.

    Parameters
    ----------
    model : EncodingModel
        Fitted, with a `RotationEquivariantCore`.
    recordings : Recording or sequence of Recording
        Those of the fit, with repeated test trials.
    out_dir : str or path-like
        A folder, made if there is none. Stages that are there, and depend on nothing that has
        changed, are not computed again.
    n_clusters : int
        Of k-means on aligned readouts.
    grid : GaborGrid, optional
        By default `GaborGrid` of the image's size.
    dog_grid : DoGGrid, optional
    norms : sequence of float
        L2 norms at which optimal stimuli are compared, z units.
    gabors : {"cluster", "neuron"}
        Which optimal Gabors tuning curves are made with.
    recipe : {"ecker", "walker"}
        Of MEIs.
    mei_options : dict, optional
        More arguments of `meis` and, but for starts, for the same names of `cluster_meis`.
    glm : PoissonGLM, optional
        By default ``PoissonGLM()``.
    beta : float or "path", optional
        Of `RotationAligner`, whose default it is.
    progress : bool
        Say on the standard error which stage is on, and how long it took.
    rng : int
        Seed of everything random.

    Returns
    -------
    Atlas
        What is also in ``out_dir``: ``index.html``, and a file for each stage.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        Another kind of model, not fitted on such recordings; no test trials, or none repeated; a
        file of a stage that is damaged.

    References
    ----------
    The twin paper, Figs. 1 to 4, 5D and E, and 6.
    """
    from .atlas_page import write_page

    recordings = check_tested(recordings)
    _check_model(model, recordings)
    size = model.image_size_
    n_clusters = check_int(n_clusters, "n_clusters", minimum=1)
    seed = check_int(rng, "rng", minimum=0)
    norms = check_array(norms, "norms", ndim=1)
    if norms.min() <= 0:
        raise ValueError(f"norms must be > 0; got {norms.min():g}.")
    check_choice(recipe, "recipe", ("ecker", "walker"))
    check_choice(gabors, "gabors", ("cluster", "neuron"))
    options, cluster_options = _check_options({} if mei_options is None else mei_options)
    grid = _check_kind(GaborGrid(size) if grid is None else grid, "grid", GaborGrid, size)
    dog_grid = DoGGrid(size) if dog_grid is None else dog_grid
    dog_grid = _check_kind(dog_grid, "dog_grid", DoGGrid, size)
    glm = _check_kind(PoissonGLM(rng=seed) if glm is None else glm, "glm", PoissonGLM)
    align = {} if beta is None else {"beta": beta}
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    run = _Run(out_dir, _digest_of_inputs(model, recordings), progress)

    scores = run("scores", _scores, (), model, recordings, glm)
    aligned = run("alignment", _alignment, (), model, n_clusters, align, seed)
    labels = aligned["labels"]
    best = run("gabors", _optimal, ("alignment",), model, grid, labels)
    dogs = run("dogs", _optimal, ("alignment",), model, dog_grid, labels)
    own = run("meis", _meis, (), model, recipe, options, seed)
    places = best["neuron_center"]
    upstream = ("alignment", "gabors")
    run("cluster_meis", _cluster_meis, upstream, model, labels, places, cluster_options, seed)
    chosen = _family(Gabors, best, gabors)
    run("tuning", _tuning, upstream, model, chosen, size, gabors)
    run(
        "comparisons", _comparisons, ("scores", "gabors", "dogs", "meis"), model, best, dogs,
        own["images"], scores, norms, size,
    )  # fmt: skip
    run("center", _center, ("gabors",), model, grid, best["neuron_responses"])
    run("statistics", _statistics, STAGES[:-1], run.stages, seed)
    result = Atlas(run.stages, size)
    write_page(result, out_dir / "index.html")
    return result


def load_atlas(out_dir):
    """Read the stages of an `Atlas` that `atlas` has made.

    Raises
    ------
    FileNotFoundError
        A stage is missing.
    ValueError
        A file is damaged, or of another atlas than the others: some stage was made again, and then
        `atlas` did not get to the end.
    """
    about, stages = {}, {}
    for name in STAGES:
        path = Path(out_dir) / f"{name}.npz"
        about[name], stages[name] = _read(path)
        for key, digest in about[name]["after"].items():
            if digest != (about["scores"]["after"][""] if key == "" else about[key]["digest"]):
                raise ValueError(
                    f"{path} is not of the same atlas as {key or 'scores'}.npz. Call atlas again."
                )
    return Atlas(stages, tuple(stages["meis"]["images"].shape[1:]))


def check_tested(recordings):
    """A list of recordings of which there can be an atlas."""
    recordings = check_recordings(recordings, ("train", "test"))
    for i, recording in enumerate(recordings):
        _, counts = np.unique(recording.of_tier("test")[1], return_counts=True)
        if len(counts) < 2 or counts.max() < 2:
            raise ValueError(
                "recordings must have two test images or more, some shown more than once; got "
                f"{len(counts)} in number {i}, shown {counts.max()} time(s) at most."
            )
    n = sum(recording.n_neurons for recording in recordings)
    if n < 4:
        raise ValueError(f"recordings must have four neurons or more; got {n}.")
    return recordings


# Stages: each returns a dict of arrays


def _scores(model, recordings, glm):
    rows = []
    for i, recording in enumerate(recordings):
        responses, ids = recording.of_tier("test")
        shown, first = np.unique(ids, return_inverse=True)
        baseline = clone(glm).fit(recording)
        row = {"ceiling": ceiling(responses, ids), "oracle": oracle(responses, ids)}
        for name, one in (("", lambda x, i=i: model.predict(x, i)), ("glm_", baseline.predict)):
            predicted = one(recording.images[shown])
            row[name + "correlation"] = correlation_to_average(predicted, responses, first)
            row[name + "single_trial"] = single_trial_correlation(predicted, responses, first)
        rows.append(row)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _alignment(model, n_clusters, options, seed):
    readouts = model.readouts()
    aligner = RotationAligner(readouts.shape[2], normalize="l2", rng=seed, **options)
    aligned = aligner.fit_transform(readouts)
    found = cluster(aligned, min(n_clusters, len(aligned)), "kmeans", n_init=5, rng=seed)
    _, labels = np.unique(found.labels, return_inverse=True)
    return {
        "readouts": readouts,
        "aligned": aligned,
        "angles": aligner.angles_,
        "labels": labels,
        "stability": np.array(found.stability),
        "embedding": embed(aligned, rng=seed),
    }


def _optimal(model, grid, labels):
    found = search(model, grid)
    out = {}
    for name, clusters in (("neuron", None), ("cluster", labels)):
        best = found.best(clusters)
        out[f"{name}_responses"] = best.responses
        for parameter in ("center", *best.stimuli.names()):
            out[f"{name}_{parameter}"] = getattr(best.stimuli, parameter)
    return out


def _meis(model, recipe, options, seed):
    from .most_exciting import meis

    found = meis(model, recipe=recipe, rng=seed, **options)
    return {"images": found.images, "responses": found.responses}


def _cluster_meis(model, labels, places, options, seed):
    from .most_exciting import cluster_meis

    found = cluster_meis(model, labels, places, rng=seed, **options)
    return {name: getattr(found, name) for name in ("images", "angles", "responses")}


def _tuning(model, gabors, size, _):
    orientation = orientation_tuning(model, gabors, size)
    phase = phase_tuning(model, gabors, size)
    sizes = size_contrast_tuning(model, gabors, size)
    plaids = cross_orientation_inhibition(model, gabors, size)
    return {
        "orientation": orientation.index,
        "orientation_curves": orientation.curves,
        "preferred": orientation.preferred,
        "phase_invariance": phase.invariance,
        "phase_curves": phase.curves,
        "suppression": sizes.index,
        "contrast": sizes.contrast_index,
        "size_contrast_curves": sizes.curves,
        "cross_orientation": plaids.index,
        "plaid_curves": plaids.curves,
    }


def _comparisons(model, gabors, dogs, images, scores, norms, size):
    gabor_images = _family(Gabors, gabors, "neuron").images(size)
    dog_images = _family(DifferencesOfGaussians, dogs, "neuron").images(size)
    return {
        "gabor_vs_dog": compare_stimuli(model, gabor_images, dog_images, norms),
        "gabor_vs_mei": compare_stimuli(model, gabor_images, images, norms),
        "dog_vs_mei": compare_stimuli(model, dog_images, images, norms),
        "nonlinearity": nonlinearity_index(scores["single_trial"], scores["glm_single_trial"]),
    }


def _center(model, grid, optimal):
    """Gabors in the middle of the image, which drive many neurons (Fig. 5D and E)."""
    shown = grid.in_the_middle()
    responder = Responder(model)
    step = responder.batch_size
    responses = np.concatenate(
        [responder(shown[i : i + step].images(grid.size)) for i in range(0, len(shown), step)]
    )
    chosen = greedy_gabors(responses, optimal, min(max(SETS), len(shown)))
    curves = [
        coverage(responses, optimal, chosen[:n], LEVELS) if len(chosen) else np.zeros(len(LEVELS))
        for n in SETS
    ]
    return {"images": shown[chosen].images(grid.size), "coverage": np.array(curves)}


def _statistics(stages, seed):
    known, labels = Atlas(stages, ()), stages["alignment"]["labels"]
    values = {name: _completed(v, labels) for name, v in known.properties.items()}
    every = values | {"dog_vs_mei": _completed(stages["comparisons"]["dog_vs_mei"], labels)}
    high = high_low(every, labels)
    like = high["gabor_vs_mei"]
    subsets = {"all": np.ones_like(like), "gabor_like": like}
    found = combinations({name: high[name] for name in COMBINED}, like)
    compared = compare_clusters(values, labels, rng=seed)
    modes = count_modes(stages["alignment"]["embedding"], rng=seed)
    own = modes.bandwidths == modes.bandwidth
    out = {
        "means": {name: [float(np.nanmean(v[labels == c])) for c in range(known.n_clusters)]
                  for name, v in every.items()},
        "high": {name: h.tolist() for name, h in high.items()},
        "correlations": {
            name: _correlations(correlate_properties(values, labels, subset))
            for name, subset in subsets.items()
            if subset.sum() > 2  # of fewer there is no correlation
        },
        "combinations": found.counts.tolist(),
        "combination": found.labels.tolist(),
        "ks_any": compared.n_any,
        "ks_all": compared.n_all,
        "ks_control_any": float(compared.control_any.mean()),
        "ks_control_all": float(compared.control_all.mean()),
        "modes": modes.n_modes,
        "modes_of_bandwidths": modes.counts.tolist(),
        "modes_of_resamples": modes.bootstrap_counts[:, own].ravel().tolist(),
    }  # fmt: skip
    return {
        "json": np.array(json.dumps(out)),
        "peaks": modes.peaks,
        "support": modes.support,
        "bandwidth": np.array(modes.bandwidth),
    }


def _correlations(found):
    return {"r": found.r.tolist(), "p": found.p.tolist()}


def _completed(values, labels):
    """Where a property is known of no neuron of a cluster, quantiles of all that it is known of."""
    values = values.copy()
    for c in range(labels.max() + 1):
        own = labels == c
        if np.isnan(values[own]).all():
            known = values[~np.isnan(values)]
            levels = (np.arange(own.sum()) + 0.5) / own.sum()
            values[own] = np.quantile(known, levels) if len(known) else 0.0
    return values


class _Run:
    """Computes stages, or reads those that are there and still hold."""

    def __init__(self, folder, digest, progress):
        self.folder, self.progress = folder, progress
        self.digests, self.stages = {"": digest}, {}

    def __call__(self, name, compute, after, *arguments):
        after = {key: self.digests[key] for key in ("", *after)}
        digest = _digest(name, after, [_fixed(a) for a in arguments])
        path = self.folder / f"{name}.npz"
        self.digests[name] = digest
        if path.is_file():
            about, arrays = _read(path)
            if about["digest"] == digest:
                self.stages[name] = arrays
                return arrays
        arrays = self._timed(name, compute, arguments)
        about = json.dumps({"digest": digest, "after": after})
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, about=np.array(about), **arrays)
        self.stages[name] = arrays
        return arrays

    def _timed(self, name, compute, arguments):
        if not self.progress:
            return compute(*arguments)
        start, end = time.perf_counter(), ""
        print(f"{name} ...", end="", file=sys.stderr, flush=True)
        try:
            arrays = compute(*arguments)
            end = f" {time.perf_counter() - start:.1f} s"
            return arrays
        finally:
            print(end, file=sys.stderr, flush=True)


def _read(path):
    """What a stage is of, and its arrays."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return json.loads(str(arrays.pop("about"))), arrays
    except FileNotFoundError:
        raise
    except (
        OSError, ValueError, LookupError, EOFError, TypeError, NotImplementedError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} cannot be read as a stage of an atlas ({error}). Remove it to have it made "
            "anew."
        ) from error


def _digest_of_inputs(model, recordings):
    tensors = [t.detach().cpu().numpy() for t in model.module_.state_dict().values()]
    names = ("images", "responses", "image_ids", "tiers")
    arrays = [getattr(r, name) for r in recordings for name in names]
    return _digest(__version__, repr(model.module_.core), *tensors, *arrays)


def _digest(*values):
    out = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            out.update(f"{value.dtype} {value.shape}".encode())
            out.update(np.ascontiguousarray(value).tobytes())
        else:
            out.update(json.dumps(value, default=str, sort_keys=True).encode())
    return out.hexdigest()


def _fixed(argument):
    """What a stage depends on of an argument, of JSON's types; inputs have digests of their own."""
    if isinstance(argument, np.ndarray):
        return _digest(argument)
    if isinstance(argument, (GaborGrid, DoGGrid)):
        return {k: np.asarray(v).tolist() for k, v in vars(argument).items()}
    if isinstance(argument, PoissonGLM):
        return _fixed(argument.get_params())
    if isinstance(argument, dict) and not any(isinstance(v, dict) for v in argument.values()):
        return {k: _fixed(v) for k, v in argument.items() if k not in ("n_jobs", "progress")}
    if isinstance(argument, (int, float, str, tuple, list, np.generic)):
        return argument
    return None


def _family(kind, stage, of):
    """The `Gabors` or `DifferencesOfGaussians` that `_optimal` has put away."""
    names = ["center", *kind.names()]
    return kind(**{name: stage[f"{of}_{name}"] for name in names})


def _check_model(model, recordings):
    from .core import RotationEquivariantCore
    from .model import EncodingModel

    if not isinstance(model, EncodingModel):
        raise TypeError(
            f"model must be a fastvis.twin.EncodingModel; got {type(model).__name__}. Experiments "
            "by themselves take other models, too."
        )
    check_is_fitted(model, "module_")
    if not isinstance(model.module_.core, RotationEquivariantCore):
        raise TypeError("model must have a RotationEquivariantCore: others cannot be aligned.")
    fitted = [len(unit.response_scale) for unit in model.units_]
    got = [recording.n_neurons for recording in recordings]
    if fitted != got or recordings[0].images.shape[1:] != model.image_size_:
        raise ValueError(
            f"recordings must be those of the fit, with {fitted} neurons and images of "
            f"{model.image_size_}; got {got} and {recordings[0].images.shape[1:]}."
        )


def _check_kind(value, name, kind, size=None):
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}; got {type(value).__name__}.")
    if size is not None and value.size != tuple(size):
        raise ValueError(f"{name} must be of the images' size {tuple(size)}; got {value.size}.")
    return value


def _check_options(options):
    """Those of `meis`, and those of `cluster_meis`."""
    from .most_exciting import cluster_meis, meis

    own, of_clusters = (set(inspect.signature(f).parameters) for f in (meis, cluster_meis))
    own -= {"model", "neurons", "recipe", "size", "rng"}
    if not set(options) <= own:
        raise ValueError(
            f"mei_options must be of {', '.join(sorted(own))}; got {', '.join(sorted(options))}."
        )
    shared = (own & of_clusters) - {"n_starts"}
    return dict(options), {k: v for k, v in options.items() if k in shared}
