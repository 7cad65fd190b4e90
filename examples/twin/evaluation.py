"""What a twin of the simulated cortex gets right: against the truth, neuron by neuron."""

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from fastvis.twin import (
    cross_orientation_inhibition,
    optimal_gabors,
    orientation_tuning,
    phase_tuning,
    size_contrast_tuning,
)

VARIES = 0.1  # standard deviation of a true index in a type
PREDICTED = 0.6  # of the ceiling
INDICES = ("orientation", "phase_invariance", "suppression", "cross_orientation")


def indices(model, gabors, size):
    """The four indices of tuning curves, and preferred orientations, by name: (n_neurons,)."""
    orientation = orientation_tuning(model, gabors, size)
    return {
        "orientation": orientation.index,
        "phase_invariance": phase_tuning(model, gabors, size).invariance,
        "suppression": size_contrast_tuning(model, gabors, size).index,
        "cross_orientation": cross_orientation_inhibition(model, gabors, size).index,
        "preferred": orientation.preferred,
    }


def true_indices(truth, grid):
    """Indices of the simulated neurons themselves, with their own best Gabors of a grid."""
    best = optimal_gabors(truth, grid)
    return indices(truth, best.stimuli, grid.size)


def evaluate(recording, atlas, grid, truth=None):
    """Numbers that say how good a twin is: a dict, of JSON's types.

    ``truth``: `true_indices`, if they are known already.
    """
    cortex = recording.truth
    truth = true_indices(cortex, grid) if truth is None else truth
    scores, labels = atlas["scores"], atlas.labels
    share = scores["correlation"] / scores["ceiling"]
    oriented = ~np.isnan(cortex.orientations)
    turned = atlas["tuning"]["preferred"] - cortex.orientations
    error = np.abs(np.angle(np.exp(2j * turned)) / 2)[oriented]
    out = {
        "correlation": float(np.median(scores["correlation"])),
        "ceiling": float(np.median(scores["ceiling"])),
        "share_of_ceiling": float(np.median(share)),
        "rand_index": float(adjusted_rand_score(cortex.types, labels)),
        "n_clusters": atlas.n_clusters,
        "n_types": len(np.unique(cortex.types)),
        "within_10_degrees": float(np.mean(error < np.deg2rad(10))),
        "median_error_degrees": float(np.rad2deg(np.median(error))),
    }
    for name in INDICES:
        true, found = truth[name], atlas["tuning"][name]
        types = np.unique(cortex.types).tolist()
        kinds = [t for t in types if np.std(true[cortex.types == t]) > VARIES]
        used = np.isin(cortex.types, kinds) & (share >= PREDICTED)
        out[name] = {
            "rank_correlation": _rank(true[used], found[used]),
            "n": int(used.sum()),
            "types": kinds,
            "all": _rank(true, found),
            "error": float(np.median(np.abs(true - found))),
        }
    return out


def _rank(a, b):
    return float(spearmanr(a, b).statistic) if len(a) > 2 else float("nan")


def report(numbers):
    """The same as a table in Markdown."""
    lines = [
        "| | measured | bar |",
        "|---|--:|--:|",
        f"| correlation to average, of its ceiling | {numbers['share_of_ceiling']:.3f} | 0.8 |",
        f"| clusters against types, adjusted Rand index | {numbers['rand_index']:.3f} | 0.8 |",
        f"| preferred orientation within 10 degrees | {numbers['within_10_degrees']:.1%} | 90 % |",
    ]
    for name in INDICES:
        found, label = numbers[name], name.replace("_", " ")
        if not found["types"]:
            lines.append(f"| {label}, varies in no type; over all neurons | {found['all']:.3f} | |")
            continue
        lines.append(
            f"| {label}, rank correlation with the true index, {found['n']} neurons of "
            f"{len(found['types'])} types ({found['all']:.2f} over all) | "
            f"{found['rank_correlation']:.3f} | 0.8 |"
        )
    return "\n".join(lines)
