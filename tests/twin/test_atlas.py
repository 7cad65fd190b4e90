"""The atlas: stages that are kept, the page, the command ``fastvis atlas``."""

import base64
import contextlib
import copy
import io
import re
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("lightning", reason="needs the torch extra")
pytest.importorskip("matplotlib", reason="needs the plot extra")
pytest.importorskip("skimage", reason="needs the data extra")

from PIL import Image  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402

from fastvis.__main__ import main  # noqa: E402
from fastvis.twin import (  # noqa: E402
    Atlas,
    DoGGrid,
    EncodingModel,
    GaborGrid,
    Recording,
    atlas,
    atlas_figures,
    atlas_page,
    atlas_stages,
    load_atlas,
    natural_patches,
    simulate_cortex,
)
from fastvis.twin.atlas_stages import STAGES  # noqa: E402
from fastvis.twin.presets import PRESETS  # noqa: E402

SMOKE = PRESETS["smoke"]
SECTIONS = (
    "Scores", "Bar codes", "Map of neurons", "MEIs of clusters", "Optimal stimuli",
    "Tuning curves", "Properties", "Pairs of properties", "Combinations",
    "Few stimuli for many neurons", "Modes",
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks are faster."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def command(*arguments):
    return main(["atlas", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with everything, and what the command said; to be read only."""
    folder = tmp_path_factory.mktemp("atlas") / "new" / "folder"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert command("simulated", "-o", folder, "--preset", "smoke") == 0
    return folder, out.getvalue()


@pytest.fixture(scope="module")
def recording():
    return SMOKE.simulate(0)


@pytest.fixture(scope="module")
def model(made):
    return EncodingModel.load(made[0] / "model.safetensors")


@pytest.fixture
def folder(made, tmp_path):
    """A copy, to be changed."""
    return Path(shutil.copytree(made[0], tmp_path / "copy"))


@pytest.fixture
def stages(made, monkeypatch):
    """Stages give what they gave before, and are listed; no page is written."""
    calls = []

    def instead(name):
        def stage(*_):
            calls.append(name)
            return atlas_stages._read(made[0] / f"{name}.npz")[1]

        return stage

    for name in STAGES:
        function = "_optimal" if name in ("gabors", "dogs") else f"_{name}"
        if function != "_optimal":
            monkeypatch.setattr(atlas_stages, function, instead(name))

    def optimal(model, grid, labels):
        return instead("gabors" if isinstance(grid, GaborGrid) else "dogs")()

    monkeypatch.setattr(atlas_stages, "_optimal", optimal)
    monkeypatch.setattr(atlas_page, "write_page", lambda *_: None)
    return calls


def arguments(**changed):
    return SMOKE.arguments((20, 20), 0) | {"progress": False} | changed


# What is made


def test_everything_is_there(made, recording):
    folder, out = made
    assert out == f"{folder / 'index.html'}: Atlas(20 neurons, 4 clusters)\n"
    expected = {f"{name}.npz" for name in STAGES} | {"index.html", "model.safetensors"}
    assert {p.name for p in folder.iterdir()} == expected | {"checkpoints"}
    found = load_atlas(folder)
    assert repr(found) == "Atlas(20 neurons, 4 clusters)"
    assert found.size == (20, 20)
    assert set(found.labels) == {0, 1, 2, 3}
    assert list(found.properties) == list(atlas_stages.PROPERTIES)
    assert all(v.shape == (20,) for v in found.properties.values())
    assert len(found.gabors()) == len(found.dogs("neuron")) == 20


def test_what_it_says_of_simulated_neurons_is_so(made, recording):
    found, types = load_atlas(made[0]), recording.truth.types
    assert np.median(found["scores"]["correlation"]) > 0.5
    assert np.median(found["scores"]["ceiling"]) > np.median(found["scores"]["correlation"])
    is_complex = np.char.startswith(types, "complex")
    is_simple = np.char.startswith(types, "simple")
    invariance = found.properties["phase_invariance"]
    assert invariance[is_complex].mean() - invariance[is_simple].mean() > 0.2
    distances = found["gabors"]["neuron_center"] - recording.truth.centers
    assert np.median(np.hypot(*distances.T)) < 2
    own, cluster = (found["gabors"][f"{of}_responses"] for of in ("neuron", "cluster"))
    assert 0.5 < (cluster / own).mean() < 1.02
    np.testing.assert_array_equal(found.gabors().sigma[found.labels == 1].std(), 0)
    assert found.gabors("neuron").center.std(0).min() > 1


def test_statistics_are_those_of_the_properties(made):
    found = load_atlas(made[0])
    said, labels = found.statistics, found.labels
    orientation = found.properties["orientation"]
    means = [orientation[labels == c].mean() for c in range(4)]
    np.testing.assert_allclose(said["means"]["orientation"], means)
    assert said["high"]["orientation"] == (np.array(means) > orientation.mean()).tolist()
    assert sum(said["combinations"]) == sum(said["high"]["gabor_vs_mei"])
    names = list(found.properties)
    i, j = names.index("orientation"), names.index("phase_invariance")
    others = [found.properties["phase_invariance"][labels == c].mean() for c in range(4)]
    expected = np.corrcoef(means, others)[0, 1]
    assert said["correlations"]["all"]["r"][i][j] == pytest.approx(expected)
    assert said["modes"] == len(found["statistics"]["peaks"])
    assert len(said["modes_of_resamples"]) == 20


def test_what_is_known_of_no_neuron_of_a_cluster_is_taken_to_be_like_all(rng):
    values, labels = rng.normal(size=1000), np.arange(1000) % 4
    values[labels == 2], values[0] = np.nan, np.nan
    found = atlas_stages._completed(values, labels)
    known = values[~np.isnan(values)]
    assert np.isnan(found[0])
    np.testing.assert_array_equal(found[labels == 1], values[labels == 1])
    np.testing.assert_allclose(
        np.quantile(found[labels == 2], [0.1, 0.5, 0.9]), np.quantile(known, [0.1, 0.5, 0.9]),
        atol=0.05,
    )  # fmt: skip
    assert not atlas_stages._completed(np.full(4, np.nan), np.zeros(4, int)).any()


# What is kept


def refuse(*_, **__):
    raise AssertionError("this was there already")


def test_a_second_run_computes_nothing(folder, made, stages, monkeypatch):
    monkeypatch.undo()
    for name in ("_optimal", *(f"_{s}" for s in STAGES if s not in ("gabors", "dogs"))):
        monkeypatch.setattr(atlas_stages, name, refuse)
    monkeypatch.setattr(EncodingModel, "fit", refuse)
    before = {p.name: p.read_bytes() for p in folder.glob("*.*")}
    (folder / "index.html").unlink()
    assert command("simulated", "-o", folder, "--preset", "smoke") == 0
    assert {p.name: p.read_bytes() for p in folder.glob("*.*")} == before


AFTER_MEIS = ["meis", "comparisons", "statistics"]
AFTER_CLUSTERS = [
    "alignment", "gabors", "dogs", "cluster_meis", "tuning", "comparisons", "center", "statistics",
]  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"mei_options": SMOKE.meis | {"n_jobs": 2}}, []),
        ({"norms": [8.0, 12.0]}, ["comparisons", "statistics"]),
        ({"mei_options": SMOKE.meis | {"n_starts": 2}}, AFTER_MEIS),
        ({"mei_options": SMOKE.meis | {"norm": 9.0}}, [*AFTER_MEIS, "cluster_meis"]),
        ({"recipe": "walker"}, AFTER_MEIS),
        ({"gabors": "neuron"}, ["tuning", "statistics"]),
        ({"n_clusters": 3}, AFTER_CLUSTERS),
        ({"beta": 2.0}, AFTER_CLUSTERS),
        ({"dog_grid": DoGGrid((20, 20), [1.0])}, ["dogs", "comparisons", "statistics"]),
        ({"glm": SMOKE.arguments(20, 0)["glm"].set_params(penalties=[2.0])},
         ["scores", "comparisons", "statistics"]),
        ({"rng": 1}, set(STAGES) - {"scores"}),
    ],
)  # fmt: skip
def test_a_change_reaches_what_depends_on_it(changed, expected, folder, model, recording, stages):
    atlas(model, recording, folder, **arguments(**changed))
    assert sorted(stages) == sorted(expected)
    stages.clear()
    atlas(model, recording, folder, **arguments(**changed))
    assert stages == []
    load_atlas(folder)


def test_another_recording_or_model_changes_everything(folder, model, recording, stages):
    changed = recording.responses.copy()
    changed[0, 0] += 1
    atlas(model, replace(recording, responses=changed), folder, **arguments())
    assert stages == list(STAGES)
    stages.clear()
    other = EncodingModel.load(folder / "model.safetensors")
    with torch.no_grad():
        next(other.module_.parameters()).add_(1e-3)
    atlas(other, recording, folder, **arguments())
    assert stages == list(STAGES)


@pytest.mark.parametrize("name", ["scores", "meis", "statistics"])
@pytest.mark.parametrize("harm", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-40]])
def test_a_truncated_stage_is_refused(name, harm, folder, model, recording, stages, capsys):
    path = folder / f"{name}.npz"
    path.write_bytes(harm(path.read_bytes()))
    message = rf"{name}\.npz cannot be read as a stage of an atlas"
    with pytest.raises(ValueError, match=message):
        load_atlas(folder)
    with pytest.raises(ValueError, match=message):
        atlas(model, recording, folder, **arguments())
    assert command("simulated", "-o", folder, "--preset", "smoke") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(rf"fastvis: .*{message}.*Remove it", error)


def test_a_stage_with_changed_bytes_is_refused(folder):
    path = folder / "meis.npz"
    damaged = bytearray(path.read_bytes())
    for i in range(len(damaged) // 3, len(damaged) // 3 + 40):
        damaged[i] ^= 255
    path.write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="meis.npz cannot be read"):
        load_atlas(folder)


def test_an_interrupted_run_goes_on(model, recording, stages, monkeypatch, tmp_path):
    tuning = atlas_stages._tuning

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atlas_stages, "_tuning", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atlas(model, recording, tmp_path, **arguments())
    kept = list(STAGES[: STAGES.index("tuning")])
    assert stages == kept
    assert {p.name for p in tmp_path.iterdir()} == {f"{name}.npz" for name in kept}
    with pytest.raises(FileNotFoundError, match="tuning.npz"):
        load_atlas(tmp_path)
    stages.clear()
    monkeypatch.setattr(atlas_stages, "_tuning", tuning)
    atlas(model, recording, tmp_path, **arguments())
    assert stages == list(STAGES[len(kept) :])


def test_stages_of_two_atlases_are_not_mixed(folder, model, recording, stages, monkeypatch):
    monkeypatch.setattr(atlas_stages, "_tuning", refuse)
    with pytest.raises(AssertionError):
        atlas(model, recording, folder, **arguments(n_clusters=3))
    with pytest.raises(ValueError, match="tuning.npz is not of the same atlas as alignment.npz"):
        load_atlas(folder)


def test_a_failed_page_leaves_the_old_one(folder, monkeypatch):
    before = (folder / "index.html").read_bytes()
    found = load_atlas(folder)
    monkeypatch.setattr(atlas_page, "SECTIONS", {"scores": ("Scores", refuse)})
    with pytest.raises(AssertionError):
        atlas_page.write_page(found, folder / "index.html")
    assert (folder / "index.html").read_bytes() == before
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        atlas_page.write_page(found, folder / "no" / "index.html")
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*"))


# The page


class Tags(HTMLParser):
    """Sections, sources of images, and tags that are still open."""

    def __init__(self, page):
        super().__init__()
        self.open, self.sources, self.titles, self.links = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [attributes["href"]] if "href" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def check_page(page):
    """It is whole, and refers to nothing; gives its pictures."""
    tags = Tags(page)
    assert tags.open == []
    assert tuple(tags.titles) == SECTIONS
    assert [link[0] for link in tags.links] == ["#"] * len(SECTIONS)
    text = re.sub(r'base64,[^"]*', "", page)
    for word in ("http", "//", "<script", "<link", "<iframe", "@import", "url(", "nan", "None"):
        assert word not in text
    pictures = []
    for source in tags.sources:
        kind, data = source.split(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            pictures.append(np.asarray(image.convert("L")))
    return pictures


def test_the_page_is_whole_and_alone(made):
    folder, _ = made
    page = (folder / "index.html").read_text(encoding="utf-8")
    pictures = check_page(page)
    found = load_atlas(folder)
    assert len(pictures) == 11 + len(atlas_figures.chosen_clusters(found))
    assert min(p.std() for p in pictures) > 5  # none is blank
    share = (found["cluster_meis"]["responses"] / found["meis"]["responses"]).mean()
    assert f"drives {100 * share:.0f} % of the response to a neuron" in page
    assert f"<td>{np.median(found['scores']['single_trial']):.2f}</td>" in page
    assert f"<td>{found.statistics['ks_any']} of 4</td>" in page
    assert len(page) < 3e6


def test_a_page_of_little(made, tmp_path):
    """Ten neurons in two clusters, and almost nothing is known of them."""
    whole = load_atlas(made[0])
    few = {
        name: {k: v[:10] if v.shape[:1] == (20,) else v for k, v in arrays.items()}
        for name, arrays in whole.stages.items()
    }
    few["alignment"]["labels"] = np.arange(10) % 2
    few["cluster_meis"]["images"] = whole["cluster_meis"]["images"][:2]
    few["comparisons"]["nonlinearity"] = np.full(10, np.nan)
    few["comparisons"]["gabor_vs_mei"] = np.where(np.arange(10) % 2, np.nan, 0.5)
    few["comparisons"]["gabor_vs_dog"][3] = np.nan
    few["center"]["images"] = whole["center"]["images"][:0]
    few["center"]["coverage"] = np.zeros_like(whole["center"]["coverage"])
    few["statistics"] = atlas_stages._statistics(few, 0)
    atlas_page.write_page(Atlas(few, whole.size), tmp_path / "little.html")
    page = (tmp_path / "little.html").read_text(encoding="utf-8")
    check_page(page)
    assert "10 model neurons in 2 clusters" in page
    assert "non-linearity unknown" in page
    assert "No more than 0 add any neurons" in page


# Recordings of files


@pytest.fixture
def tiny(monkeypatch):
    """A preset for images of 12 x 12 that takes no time."""
    preset = replace(
        SMOKE, core=dict(kernel_sizes=(5, 3), n_features=2, n_orientations=4, padding="valid"),
        max_steps=25, n_clusters=2, meis=dict(n_starts=1, max_iter=3),
    )  # fmt: skip
    monkeypatch.setitem(PRESETS, "smoke", preset)
    return preset


def of_six_neurons(seed=0):
    images = natural_patches(150, 12, rng=seed)
    return simulate_cortex(6, images, n_test=10, n_repeats=4, margin=3.0, rng=seed)


def test_files_of_both_kinds_are_read_trained_on_and_scored(
    tiny, write_sensorium, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(atlas_page, "write_page", lambda *_: None)
    first, second = of_six_neurons(0), of_six_neurons(1)
    sensorium = write_sensorium(first, tmp_path / "static")
    second.save(tmp_path / "second.h5")
    out = tmp_path / "out"
    options = ["-o", out, "--preset", "smoke", "--clusters", 3]
    assert command(sensorium, "--block", 2, *options) == 0
    found = load_atlas(out)
    assert found.n_clusters == 3
    model = EncodingModel.load(out / "model.safetensors")
    responses, ids = first.of_tier("test")
    shown, index = np.unique(ids, return_inverse=True)
    predicted = model.predict(first.images[shown])
    for i in range(6):
        means = [responses[index == k, i].mean() for k in range(len(shown))]
        expected = np.corrcoef(predicted[:, i], means)[0, 1]
        assert found["scores"]["correlation"][i] == pytest.approx(expected, abs=1e-3)
    assert "Recording(6 neurons, 150 images of 12 x 12" in capsys.readouterr().err

    again = Recording.from_sensorium(sensorium, block=2)
    again.save(tmp_path / "first.h5")
    options[1] = tmp_path / "both"
    assert command(tmp_path / "first.h5", tmp_path / "second.h5", *options) == 0
    assert len(load_atlas(tmp_path / "both").labels) == 12


# Mistakes


def refused(capsys, *arguments):
    """The one line that the command ends with."""
    capsys.readouterr()
    assert command(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("Recording(")]
    assert len(lines) == 1
    assert lines[0].startswith("fastvis: ")
    return lines[0]


def test_mistakes_of_the_command(folder, tmp_path, monkeypatch, capsys):
    h5, new = tmp_path / "a.h5", tmp_path / "new"
    h5.write_text("no recording")
    out = ["-o", new, "--preset", "smoke"]
    assert "there is no file none.h5" in refused(capsys, "none.h5", *out)
    assert "a.h5 is no recording" in refused(capsys, h5, *out)
    assert "--block is for folders" in refused(capsys, h5, "--block", 2, *out)
    assert "there is no meta/trials/tiers.npy" in refused(capsys, tmp_path, *out)
    assert "--clusters must be an integer >= 1" in refused(capsys, h5, "--clusters", 0, *out)
    assert "--seed must be an integer >= 0" in refused(capsys, h5, "--seed", -1, *out)
    once = simulate_cortex(5, natural_patches(40, 20), n_test=5, n_repeats=1, margin=3.0)
    once.save(h5)
    assert "some shown more than once; got 5 in number 0" in refused(capsys, h5, *out)
    if not torch.cuda.is_available():
        monkeypatch.setitem(PRESETS, "gpu", replace(SMOKE, needs_gpu=True))
        message = refused(capsys, "simulated", "-o", new, "--preset", "gpu")
        assert "needs a GPU, and torch finds none" in message
    assert not new.exists()

    at = ["-o", folder, "--preset", "smoke"]
    assert "is a model of other recordings" in refused(capsys, "simulated", "--seed", 1, *at)
    monkeypatch.setitem(PRESETS, "smoke", replace(SMOKE, model=SMOKE.model | {"patience": 9}))
    assert "or of another preset" in refused(capsys, "simulated", *at)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be read as one" in refused(capsys, "simulated", *at)


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stopped(self, *_, **__):
        self.stopped_by_ = "interrupted"

    monkeypatch.setattr(EncodingModel, "fit", stopped)
    assert command("simulated", "-o", tmp_path, "--preset", "smoke") == 130
    assert capsys.readouterr().err.endswith("interrupted, the same command goes on from here\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_are_of_arguments_that_exist(preset):
    preset = PRESETS[preset]
    EncodingModel(**preset.model)._check()
    size = preset.simulated["size"]
    given = preset.arguments(size, 0)
    assert given["grid"].size == size
    given["glm"]._check()
    atlas_stages._check_options(given["mei_options"])


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"n_clusters": 0}, ValueError, "n_clusters must be an integer >= 1; got 0"),
        ({"rng": -1}, ValueError, "rng must be an integer >= 0"),
        ({"norms": [6.0, 0.0]}, ValueError, "norms must be > 0; got 0"),
        ({"gabors": "both"}, ValueError, "gabors must be one of 'cluster', 'neuron'"),
        ({"recipe": "fish"}, ValueError, "recipe must be one of 'ecker', 'walker'"),
        ({"grid": DoGGrid(20)}, TypeError, "grid must be a GaborGrid; got DoGGrid"),
        ({"grid": GaborGrid(21)}, ValueError, r"grid must be of the images' size \(20, 20\)"),
        ({"dog_grid": 3}, TypeError, "dog_grid must be a DoGGrid; got int"),
        ({"glm": None, "mei_options": {"steps": 3}}, ValueError, "mei_options must be of batch_"),
        ({"glm": "poisson"}, TypeError, "glm must be a PoissonGLM; got str"),
    ],
)
def test_bad_arguments(changed, error, message, model, recording, tmp_path):
    with pytest.raises(error, match=message):
        atlas(model, recording, tmp_path / "new", **arguments(**changed))
    assert not (tmp_path / "new").exists()


def test_bad_models_and_recordings(model, recording, tmp_path):
    def refuses(error, message, model, recording):
        with pytest.raises(error, match=message):
            atlas(model, recording, tmp_path / "new", **arguments())
        assert not (tmp_path / "new").exists()

    refuses(TypeError, "model must be a fastvis.twin.EncodingModel; got SimulatedCortex",
            recording.truth, recording)  # fmt: skip
    refuses(NotFittedError, "not fitted", EncodingModel(), recording)
    foreign = copy.deepcopy(model)
    foreign.module_.core = torch.nn.Conv2d(1, 3, 3)
    refuses(TypeError, "model must have a RotationEquivariantCore", foreign, recording)
    refuses(TypeError, "recordings must be fastvis.twin.Recording", model, recording.images)
    fewer = replace(recording, responses=recording.responses[:, :7])
    refuses(ValueError, r"must be those of the fit, with \[20\] neurons .* got \[7\]", model, fewer)
    larger = replace(recording, images=np.pad(recording.images, ((0, 0), (1, 1), (1, 1))))
    refuses(ValueError, r"images of \(20, 20\)", model, larger)
    refuses(ValueError, r"got \[20, 20\]", model, [recording, recording])
    untested = replace(recording, tiers=np.where(recording.tiers == "test", "validation",
                                                 recording.tiers))  # fmt: skip
    refuses(ValueError, "must have test trials", model, untested)
    _, first = np.unique(recording.image_ids, return_index=True)
    trials = (recording.responses, recording.image_ids, recording.tiers)
    once = Recording(recording.images, *(values[first] for values in trials))
    refuses(ValueError, "some shown more than once; got 30 in number 0", model, once)
    three = replace(recording, responses=recording.responses[:, :3])
    refuses(ValueError, "four neurons or more; got 3", model, three)


def test_without_matplotlib(model, recording, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "fastvis.twin.atlas_page")
    monkeypatch.delattr("fastvis.twin.atlas_page")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"needs matplotlib. Run: pip install fastvis\[plot\]"):
        atlas(model, recording, tmp_path / "new", **arguments())
    assert not (tmp_path / "new").exists()
