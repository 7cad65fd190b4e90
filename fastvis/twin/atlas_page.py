"""The page of an atlas: one HTML file with its pictures in it; imports matplotlib."""

import base64
import io
from html import escape

import numpy as np

from .._files import check_target, replacing

try:
    import matplotlib
except ImportError as error:
    raise ImportError(
        "the page of an atlas needs matplotlib. Run: pip install fastvis[plot]"
    ) from error

from . import atlas_figures as figures
from .atlas_figures import median, percent, share_of_own

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Functional atlas of {n_neurons} neurons</title>
<style>
  body {{ font: 16px/1.55 system-ui, sans-serif; color: #222; background: #fff;
         max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem; }}
  h1 {{ font-weight: 600; margin-bottom: .25rem; }}
  h2 {{ font-weight: 600; font-size: 1.2rem; margin: 3rem 0 .5rem; }}
  p {{ max-width: 46rem; }}
  nav {{ font-size: .9rem; color: #666; }}
  nav a {{ color: inherit; margin-right: 1rem; white-space: nowrap; }}
  figure {{ margin: 1rem 0; }}
  img {{ display: block; max-width: 100%; height: auto; }}
  table {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }}
  th {{ font-weight: 500; color: #666; text-align: right; }}
  th, td {{ padding: .15rem 0 .15rem 1.5rem; border-bottom: 1px solid #eee; text-align: right; }}
  th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
  .note {{ color: #666; font-size: .9rem; }}
  @media print {{
    body {{ font-size: 10pt; max-width: none; margin: 0; }}
    nav {{ display: none; }}
    figure, table {{ break-inside: avoid; }}
    h2 {{ break-after: avoid; margin-top: 1.5rem; }}
  }}
</style>
<h1>Functional atlas</h1>
<p>{n_neurons} model neurons in {clusters}, fitted to images of {height} &times; {width}
pixels. The paper is &lsquo;Digital twin reveals combinatorial code of non-linear computations in
the mouse primary visual cortex&rsquo;; its numbers are of seven mice and 50 clusters.</p>
<nav>{contents}</nav>
{sections}
</html>
"""
SECTION = '<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>'
FIGURE = '<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{title}"></figure>'


def write_page(atlas, path):
    """Write the page of an atlas: one HTML file, named exactly ``path``, that needs nothing else.

    A failed write leaves an older file as it was.

    Parameters
    ----------
    atlas : Atlas
    path : str or path-like

    Raises
    ------
    FileNotFoundError, IsADirectoryError
    """
    check_target(path)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the page is the same whatever the user's style
        matplotlib.rcParams.update(figures.STYLE)
        sections = {name: (title, make(atlas)) for name, (title, make) in SECTIONS.items()}
    page = PAGE.format(
        n_neurons=len(atlas.labels),
        clusters=_count(atlas.n_clusters, "cluster"),
        height=atlas.size[0],
        width=atlas.size[1],
        contents=" ".join(f'<a href="#{name}">{t}</a>' for name, (t, _) in sections.items()),
        sections="\n".join(
            SECTION.format(name=name, title=title, body=body)
            for name, (title, body) in sections.items()
        ),
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


# Sections: each gives HTML


def _scores(atlas):
    found = atlas["scores"]
    share = {
        name: median(share_of_own(found[a], found[b]))
        for name, a, b in (
            ("ceiling", "correlation", "ceiling"),
            ("glm_ceiling", "glm_correlation", "ceiling"),
            ("oracle", "single_trial", "oracle"),
            ("glm_oracle", "glm_single_trial", "oracle"),
        )
    }
    medians = {name: median(values) for name, values in found.items()}
    rows = (
        ("correlation to average", medians["correlation"], medians["glm_correlation"], ""),
        ("&ndash; as a fraction of the ceiling", share["ceiling"], share["glm_ceiling"], ""),
        ("single-trial correlation", medians["single_trial"], medians["glm_single_trial"], ".42"),
        ("&ndash; as a fraction of the oracle", share["oracle"], share["glm_oracle"], ".69"),
        ("noise ceiling", medians["ceiling"], None, ""),
        ("oracle", medians["oracle"], None, ""),
    )
    table = _table(
        ("median over neurons", "model", "linear model", "paper"),
        [(name, _number(a), "" if b is None else _number(b), c) for name, a, b, c in rows],
    )
    return _join(
        table,
        _figure(figures.scores(atlas), "Scores"),
        f"Left: the model reaches {percent(share['ceiling'])} of what the noise of "
        "the responses allows, the linear (Poisson) model "
        f"{percent(share['glm_ceiling'])}. Middle and right, one dot a neuron: a perfect model "
        "would lie on the line in the middle, and above it on the right, as the mean of a few "
        "other trials, the oracle, is itself noisy.",
    )


def _bar_codes(atlas):
    sizes = np.bincount(atlas.labels)
    stability = float(atlas["alignment"]["stability"])
    return _join(
        _figure(figures.bar_codes(atlas), "Bar codes"),
        "Each row is a neuron: what it reads of each feature in each orientation, scaled to one "
        "length. Left as fitted, right turned so that neurons which differ only in their preferred "
        f"orientation look alike. k-means found {_count(atlas.n_clusters, 'cluster')} of "
        f"{sizes.min()} to {sizes.max()} neurons; from other seeds it finds clusters that agree "
        f"with these by {_number(stability)} (adjusted Rand index).",
    )


def _map(atlas):
    return _join(
        _figure(figures.maps_of_meis(atlas), "Map of neurons"),
        "One dot a neuron; those with similar aligned bar codes are near each other (t-SNE, which "
        "keeps neighborhoods and neither distances nor densities). Colors are clusters. Left: most "
        "exciting images (MEIs) of clusters, in their middle; where there is no room, of the "
        "largest clusters. Right: of some of the best predicted neurons, about their receptive "
        "fields.",
    )


def _cluster_meis(atlas):
    mei = share_of_own(atlas["cluster_meis"]["responses"], atlas["meis"]["responses"])
    best = atlas["gabors"]
    gabor = share_of_own(best["cluster_responses"], best["neuron_responses"])
    return _join(
        _figure(figures.cluster_meis(atlas), "MEIs of clusters"),
        "The image that drives all neurons of a cluster the most, when it is moved and turned for "
        "each of them, and how well it does in units of their own MEIs (medians of the cluster). "
        f"Over all neurons, the MEI of the cluster drives {percent(np.nanmean(mei))} of the "
        "response to a neuron&rsquo;s own MEI (paper: 60 %), and the best Gabor of the cluster "
        f"{percent(np.nanmean(gabor))} of that to its own best Gabor (paper: 87 %).",
    )


def _optimal(atlas):
    neuron = int(np.argmax(atlas["scores"]["correlation"]))
    return _join(
        _figure(figures.optimal_stimuli(atlas), "Optimal stimuli"),
        f"Above: the Gabor, the difference of Gaussians and the image that drive neuron {neuron}, "
        "the best predicted one, the most, and its responses. Below: those of its cluster, "
        f"{atlas.labels[neuron] + 1}, and mean responses of the cluster. Gabors and "
        "differences of Gaussians (DoG) have the best of several contrasts, MEIs a norm of their "
        "own. Below, the two are shown as for this neuron, and the MEI as for none.",
    )


def _tuning(atlas):
    clusters = figures.chosen_clusters(atlas)
    return _join(
        *(_figure(figures.tuning(atlas, c), f"Tuning of cluster {c + 1}") for c in clusters),
        f"The clusters with the strongest orientation tuning, phase invariance, surround "
        "suppression and cross-orientation inhibition"
        f"{'; some are the same' if len(clusters) < 4 else ''}. Of each, up to "
        f"{figures.N_BEST} best predicted neurons: MEI, and responses to changed copies of the "
        "cluster&rsquo;s Gabor, scaled to their maximum. Numbers are indices: F2/F0 of "
        "orientation, 1 &minus; F1/F0 of phase, and by how much the largest Gabor at the highest "
        "contrast, or the plaid of the highest contrasts, is worse than the best.",
    )


def _properties(atlas):
    means = ", ".join(
        f"{escape(title)} {_number(median(atlas.properties[name]))}"
        for name, title in figures.PROPERTIES.items()
    )
    statistics, n = atlas.statistics, atlas.n_clusters
    table = _table(
        ("clusters that differ from all neurons", "here", "random clusters", "paper"),
        [
            ("in some property", f"{statistics['ks_any']} of {n}",
             f"{statistics['ks_control_any']:.1f}", "50 of 50"),
            ("in every property", f"{statistics['ks_all']} of {n}",
             f"{statistics['ks_control_all']:.1f}", "15 of 50"),
        ],
    )  # fmt: skip
    return _join(
        _figure(figures.maps_of_properties(atlas), "Properties"),
        f"The map, colored by seven properties, and their histograms. Medians: {means}. Colors end "
        "at the 1st and 99th percentile. Pale: not known, because the stimulus that it is "
        "relative to does not drive the neuron, or the linear model does not predict it.",
        table,
        "Two-sided Kolmogorov-Smirnov tests at .01, not corrected for their number; random "
        "clusters have the sizes of the real ones, and are means of 100 draws.",
    )


def _pairs(atlas):
    found, like = atlas.statistics, sum(atlas.statistics["high"]["gabor_vs_mei"])
    names = list(figures.PROPERTIES)
    three = [names.index(name) for name in figures.COMBINED]
    text = ""
    if "gabor_like" in found["correlations"]:
        r, p = (np.array(found["correlations"]["gabor_like"][k]) for k in "rp")
        pairs = [(three[i], three[j]) for i in range(3) for j in range(i)]
        said = ", ".join(
            f"{escape(figures.PROPERTIES[names[i]])} and {escape(figures.PROPERTIES[names[j]])} "
            f"{r[i, j]:.2f} (p {escape(figures.p_value(p[i, j]))})"
            for i, j in pairs
        )
        text = f" Of Gabor-like clusters the three non-linear ones correlate so: {said}."
    return _join(
        _figure(figures.scatter_matrix(atlas), "Pairs of properties"),
        f"One dot a cluster: means of its neurons. Red: the {like} Gabor-like ones, whose best "
        "Gabors do better than average in units of MEIs; gray: the others. Above each plot the "
        "correlation and, in brackets, its p-value, not corrected for the number of plots: in red "
        "of Gabor-like clusters, in black of all; none for fewer than three clusters." + text,
    )


def _combinations(atlas):
    found = atlas.statistics
    counts, like = found["combinations"], sum(found["high"]["gabor_vs_mei"])
    present = sum(count > 0 for count in counts)
    return _join(
        _figure(figures.maps_of_high(atlas), "High and low"),
        "In color: clusters whose mean is above that of all neurons; gray: below. Gabor-like "
        "clusters above, the others below; pale are those of the other row.",
        _figure(figures.combinations(atlas), "Combinations"),
        "Gabor-like clusters by which of phase invariance, surround suppression and "
        f"cross-orientation inhibition (plaid) are high. {present} of 8 combinations occur among "
        f"{_count(like, 'Gabor-like cluster')} (paper: all 8).",
    )


def _center(atlas):
    stage = atlas["center"]
    half = int(np.argmin(np.abs(figures.LEVELS - 0.5)))
    driven = ", ".join(
        f"{n}: {percent(curve[half])}" for n, curve in zip(figures.SETS, stage["coverage"])
    )
    few = len(stage["images"])
    fewer = f" No more than {few} add any neurons." if few < max(figures.SETS) else ""
    return _join(
        _figure(figures.center(atlas), "Gabors in the center"),
        "Gabors in the middle of the image, one after another chosen to drive the most neurons "
        "that none before them does, to at least half of the response to their own best Gabor. "
        f"Neurons that so many Gabors drive: {driven} (paper: 20 drive 75 %).{fewer} "
        "Neurons that look elsewhere are driven by none.",
    )


def _modes(atlas):
    found = atlas.statistics
    widths, resamples = found["modes_of_bandwidths"], found["modes_of_resamples"]
    return _join(
        _figure(figures.modes(atlas), "Modes"),
        f"Peaks of the smoothed density of the map: {_count(found['modes'], 'mode')} (paper: "
        "about 30). Circles have the width of the smoothing; thick ones are found again in most "
        f"resamples. With half to twice the width there are {min(widths)} to {max(widths)}, with "
        f"resampled neurons {min(resamples)} to {max(resamples)}. Densities of t-SNE are not "
        "those of bar codes: modes need not be cell types.",
    )


SECTIONS = {
    "scores": ("Scores", _scores),
    "bar-codes": ("Bar codes", _bar_codes),
    "map": ("Map of neurons", _map),
    "cluster-meis": ("MEIs of clusters", _cluster_meis),
    "optimal": ("Optimal stimuli", _optimal),
    "tuning": ("Tuning curves", _tuning),
    "properties": ("Properties", _properties),
    "pairs": ("Pairs of properties", _pairs),
    "combinations": ("Combinations", _combinations),
    "center": ("Few stimuli for many neurons", _center),
    "modes": ("Modes", _modes),
}


# Parts of pages


def _join(*parts):
    """Figures and tables as they are, text as paragraphs."""
    return "\n".join(part if part.startswith("<") else f"<p>{part}</p>" for part in parts)


def _figure(figure, title):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(96 * figure.get_size_inches()[0])
    return FIGURE.format(data=data, width=width, title=title)


def _table(head, rows):
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    return "<table>" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _number(value):
    return f"{value:.2f}" if np.isfinite(value) else "unknown"


def _count(n, noun):
    return f"{n} {noun}{'s' if n != 1 else ''}"
