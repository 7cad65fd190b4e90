"""Scenes: what follows from shapes and order, indexing, files, streams, bad input, bad files."""

import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastvis.scenes import SceneFile, Scenes, ScenesWriter

h5py = pytest.importorskip("h5py")

COUNTS = pytest.mark.parametrize("counts", [(3,), (0, 3), (1, 4)], ids=str)


def make(n=6, size=(9, 7), n_objects=(0, 3), seed=0, **changes):
    """Random scenes by the painter's algorithm; objects may be hidden altogether."""
    rng = np.random.default_rng(seed)
    most = max(n_objects)
    shapes = np.zeros((n, most, *size), bool)
    order = np.full((n, most), -1)
    labels = np.zeros((n, *size), int)
    for i in range(n):
        k = rng.integers(n_objects[0], most + 1)
        order[i, :k] = rng.permutation(k)
        shapes[i, :k] = rng.random((k, *size)) < 0.4
        for object_ in order[i, :k]:
            labels[i][shapes[i, object_]] = object_ + 1
    absent = np.arange(most) >= (order >= 0).sum(axis=1, keepdims=True)
    x = rng.random((n, most))
    table = {
        "class": np.where(absent, -1, rng.integers(0, 3, (n, most))),
        "color": rng.integers(0, 256, (n, most, 3)).astype(np.uint8),
        "x": np.where(absent, np.nan, x).astype(np.float32),
    }
    images = rng.integers(0, 256, (n, *size, 3)).astype(np.uint8)
    parts = {
        "shapes": shapes, "order": order, "table": table, "metadata": {"classes": ["a", "b", "c"]},
    }  # fmt: skip
    return Scenes(images, labels, **{**parts, **changes})


def assert_same(a, b):
    for name in ("images", "labels", "shapes", "order", "present"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert x.dtype == y.dtype, name
            np.testing.assert_array_equal(x, y, err_msg=name)
    assert set(a.table) == set(b.table)
    for name in a.table:
        assert a.table[name].dtype == b.table[name].dtype
        np.testing.assert_array_equal(a.table[name], b.table[name], err_msg=name)
    assert a.metadata == b.metadata


# What is known


def test_what_follows_from_shapes_and_order():
    scenes = make(40, n_objects=(0, 4))
    assert 0 in scenes.n_objects
    assert 4 in scenes.n_objects
    occlusion = scenes.occlusion()
    for i, order in enumerate(scenes.order.tolist()):
        there = [k for k in order if k >= 0]
        assert scenes.n_objects[i] == len(there)
        assert np.flatnonzero(scenes.present[i]).tolist() == sorted(there)
        for a, b in np.ndindex(4, 4):
            covers = a in there and b in there and there.index(a) > there.index(b)
            covers = covers and (scenes.shapes[i, a] & scenes.shapes[i, b]).any()
            assert occlusion[i, a, b] == covers
            assert scenes.visibility[i, a] == (scenes.labels[i] == a + 1).sum()


def test_a_hidden_object_is_present():
    shapes = np.ones((1, 2, 2, 2), bool)
    scenes = Scenes(np.zeros((1, 2, 2, 3), np.uint8), np.full((1, 2, 2), 1), shapes, [[1, 0]])
    assert scenes.visibility.tolist() == [[4, 0]]
    assert scenes.present.tolist() == [[True, True]]
    assert scenes.occlusion().tolist() == [[[False, True], [False, False]]]


def test_covered_also_where_a_third_object_hides_it():
    shapes = np.zeros((1, 3, 1, 3), bool)
    shapes[0, 0, 0, :2], shapes[0, 1, 0, 1:], shapes[0, 2, 0, 1] = True, True, True
    labels = np.array([[[1, 3, 2]]])
    scenes = Scenes(np.zeros((1, 1, 3, 3), np.uint8), labels, shapes, [[0, 1, 2]])
    assert np.argwhere(scenes.occlusion()[0]).tolist() == [[1, 0], [2, 0], [2, 1]]


def test_absent_objects_neither_cover_nor_are_covered():
    shapes = np.ones((1, 3, 1, 2), bool)
    scenes = Scenes(np.zeros((1, 1, 2, 3), np.uint8), [[[3, 3]]], shapes, [[0, 2, -1]])
    assert np.argwhere(scenes.occlusion()[0]).tolist() == [[2, 0]]


@pytest.mark.parametrize(
    ("parts", "present"),
    [
        ({}, [[True, False, True]]),  # seen
        ({"shapes": np.ones((1, 3, 1, 2), bool)}, [[True, True, True]]),
        ({"order": [[2, 0, -1]]}, [[True, False, True]]),
        ({"present": [[True, True, True]]}, [[True, True, True]]),
    ],
)
def test_which_objects_are_present(parts, present):
    scenes = Scenes(np.zeros((1, 1, 2, 3), np.uint8), [[[1, 3]]], **parts)
    assert scenes.present.tolist() == present


@pytest.mark.parametrize(("n_objects", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.int32)])
def test_dtype_of_labels(n_objects, dtype):
    labels = np.arange(400).reshape(1, 20, 20) % (n_objects + 1)
    scenes = Scenes(np.zeros((1, 20, 20, 3), np.uint8), labels)
    assert scenes.labels.dtype == dtype
    np.testing.assert_array_equal(scenes.labels, labels)
    assert scenes.visibility.shape == (1, n_objects)


def test_large_images_are_counted_in_blocks():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (3, 600, 500))
    scenes = Scenes(np.zeros((3, 600, 500, 3), np.uint8), labels)
    expected = [[(image == k).sum() for k in (1, 2, 3)] for image in labels]
    assert scenes.visibility.tolist() == expected


def test_repr():
    expected = "Scenes(6 images of 9 x 7 pixels, 1 to 3 objects; shapes, order, table of class, "
    assert repr(make(seed=3)) == expected + "color, x)"
    plain = Scenes(np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2), int))
    assert repr(plain) == "Scenes(1 image of 2 x 2 pixels, 1 object)"
    assert repr(plain[:0]) == "Scenes(0 images of 2 x 2 pixels, 0 objects)"


# Indexing

INDICES = [
    3, -1, np.int64(2), slice(1, 4), slice(None, None, -2), slice(5, 2), [4, 0, 4], [-1, -6], [],
    np.array([True, False, True, False, False, True]), np.array([5, 1], np.uint8),
]  # fmt: skip


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_indexing_gives_scenes(index, tmp_path):
    scenes = make()
    rows = np.atleast_1d(np.arange(6)[index if np.size(index) else slice(0)])
    rows = np.arange(6)[index] if isinstance(index, slice) else rows
    picked = scenes[index]
    assert isinstance(picked, Scenes)
    np.testing.assert_array_equal(picked.images, scenes.images[rows])
    np.testing.assert_array_equal(picked.labels, scenes.labels[rows])
    np.testing.assert_array_equal(picked.order, scenes.order[rows])
    np.testing.assert_array_equal(picked.shapes, scenes.shapes[rows])
    np.testing.assert_array_equal(picked.table["color"], scenes.table["color"][rows])
    assert picked.labels.dtype == scenes.labels.dtype
    scenes.save(tmp_path / "scenes.hdf5")
    with Scenes.open(tmp_path / "scenes.hdf5") as file:
        assert_same(file[index], picked)
        np.testing.assert_array_equal(file.read_images(index), picked.images)


def test_a_slice_shares_memory():
    scenes = make()
    assert np.shares_memory(scenes[2:4].images, scenes.images)
    assert np.shares_memory(scenes[2].shapes, scenes.shapes)


def test_iteration(tmp_path):
    scenes = make(70)  # more than are read at once
    scenes.save(tmp_path / "scenes.hdf5")
    with Scenes.open(tmp_path / "scenes.hdf5") as file:
        assert len(list(scenes)) == len(list(file)) == len(file) == 70
        for i, (one, read) in enumerate(zip(scenes, file)):
            assert len(one) == 1
            assert_same(one, scenes[i])
            assert_same(read, one)


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        (6, IndexError, "there are 6 scenes; got the index 6"),
        (-7, IndexError, "there are 6 scenes"),
        ([0, 6], IndexError, "there are 6 scenes"),
        ([True, False], IndexError, "a mask of 6 scenes must have 6 values; got 2"),
        (1.0, TypeError, "scenes are picked by an index"),
        ("images", TypeError, "scenes are picked by an index"),
        (True, TypeError, "scenes are picked by an index"),
        (None, TypeError, "scenes are picked by an index"),
        ([[0, 1]], TypeError, "scenes are picked by an index"),
    ],
)
def test_bad_indices(index, error, message, tmp_path):
    scenes = make()
    scenes.save(tmp_path / "scenes.hdf5")
    with Scenes.open(tmp_path / "scenes.hdf5") as file:
        for source in (scenes, file):
            with pytest.raises(error, match=message):
                source[index]


# Files


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scenes.hdf5"


@COUNTS
def test_round_trip(counts, path):
    scenes = make(n_objects=(*counts, counts[-1])[:2])
    scenes.save(path)
    assert_same(Scenes.load(path), scenes)
    assert [p.name for p in path.parent.iterdir()] == ["scenes.hdf5"]


@given(
    n=st.integers(1, 4), height=st.integers(1, 9), width=st.integers(1, 9), k=st.integers(0, 4),
    parts=st.sets(st.sampled_from(["shapes", "order", "table", "metadata"])),
)  # fmt: skip
def test_round_trip_of_any_size_and_part(tmp_path_factory, n, height, width, k, parts):
    left_out = {name: None for name in ("shapes", "order", "table", "metadata")}
    left_out = {name: None for name in left_out if name not in parts}
    present = None if "order" in parts else np.ones((n, k), bool)
    scenes = make(n, (height, width), (0, k), **left_out, present=present)
    path = tmp_path_factory.getbasetemp() / "any.hdf5"
    scenes.save(path)
    assert_same(Scenes.load(path), scenes)


def test_the_layout_is_that_of_multi_object_data_sets(path):
    scenes = make(20)
    scenes.save(path)
    with h5py.File(path, "r") as file:
        data = {name: file[name][:] for name in file}
        assert json.loads(file.attrs["fastvis_metadata"]) == {"classes": ["a", "b", "c"]}
    assert data["image"].dtype == np.uint8
    assert data["mask"].shape == (20, 9, 7, 1)
    # what readers of that layout compute: slot 0 is the background, one of each is visible
    assert data["visibility"].shape == (20, 4)
    assert set(np.unique(data["visibility"])) == {0, 1}
    assert (data["visibility"][:, 0] == 1).all()
    assert (data["visibility"].sum(axis=1) - 1 == data["num_actual_objects"][:, 0]).all()
    slots = data["mask"] == np.arange(4)
    assert (slots.any(axis=(1, 2)) <= data["visibility"].astype(bool)).all()
    for name, column in scenes.table.items():
        np.testing.assert_array_equal(data[name][:, 1:], column)
    assert np.isnan(data["x"][:, 0]).all()
    assert (data["class"][:, 0] == -1).all()
    np.testing.assert_array_equal(data["order"], scenes.order)
    bits = np.unpackbits(data["shapes"], axis=2)[:, :, : 9 * 7]
    np.testing.assert_array_equal(bits.reshape(scenes.shapes.shape), scenes.shapes)


def foreign(path, **changes):
    """A file as github.com/addtt/object-centric-library has them, without what is ours."""
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 4, (10, 8, 8, 1)).astype(np.int32)
    mask[::2][mask[::2] == 3] = 0  # every other image has two objects of three
    visibility = np.ones((10, 4, 1), np.float32)
    visibility[::2, 3] = 0
    data = {
        "image": rng.integers(0, 256, (10, 8, 8, 3)).astype(np.uint8),
        "mask": mask,
        "visibility": visibility,
        "num_actual_objects": visibility.sum(axis=1) - 1,
        "color": rng.random((10, 4, 3)),
        "shape": rng.integers(0, 4, (10, 4, 1)).astype(np.uint8),
        "x": rng.random((10, 4)),
        "scene_light": rng.random((10, 2)),  # not of slots
        "name": np.array([b"scene"] * 10),
    }
    data = {name: x for name, x in {**data, **changes}.items() if x is not None}
    with h5py.File(path, "w") as file:
        for name, x in data.items():
            file[name] = x
        file.create_group("more")
    return data


def test_a_file_of_others(path):
    data = foreign(path)
    scenes = Scenes.load(path)
    np.testing.assert_array_equal(scenes.images, data["image"])
    np.testing.assert_array_equal(scenes.labels, data["mask"][..., 0])
    assert scenes.labels.dtype == np.uint8
    assert scenes.n_objects.tolist() == [2, 3] * 5
    assert scenes.shapes is None
    assert scenes.order is None
    assert set(scenes.table) == {"color", "shape", "x"}
    for name, column in scenes.table.items():
        np.testing.assert_array_equal(column, data[name][:, 1:])
    assert scenes.metadata == {}


def test_a_file_of_others_with_other_shapes(path):
    usual = foreign(path)
    expected = Scenes.load(path)
    flat = {"mask": usual["mask"][..., 0].astype(np.int64)}
    foreign(path, **flat, visibility=usual["visibility"][..., 0], num_actual_objects=None)
    assert_same(Scenes.load(path), expected)


def test_the_same_scenes_give_the_same_bytes(path):
    make().save(path)
    first = path.read_bytes()
    make().save(path)
    assert path.read_bytes() == first


# Streams


def test_pieces_are_the_whole(path):
    scenes = make(23)
    with ScenesWriter(path) as writer:
        for start in range(0, 23, 5):
            writer.append(scenes[start : start + 5])
            writer.append(scenes[:0])
            assert not path.exists()
    assert_same(Scenes.load(path), scenes)


def test_pieces_with_other_numbers_of_objects(path):
    pieces = [make(3, n_objects=(k, k), seed=k) for k in (2, 5, 0, 4)]
    with ScenesWriter(path) as writer:
        for piece in pieces:
            writer.append(piece)
    scenes = Scenes.load(path)
    assert scenes.order.shape == (12, 5)
    for i, piece in enumerate(pieces):
        read, k = scenes[3 * i : 3 * i + 3], piece.order.shape[1]
        np.testing.assert_array_equal(read.labels, piece.labels)
        np.testing.assert_array_equal(read.shapes[:, :k], piece.shapes)
        np.testing.assert_array_equal(read.order[:, :k], piece.order)
        np.testing.assert_array_equal(read.table["color"][:, :k], piece.table["color"])
        np.testing.assert_array_equal(read.visibility[:, :k], piece.visibility)
        assert not read.shapes[:, k:].any()
        assert not read.present[:, k:].any()
        assert (read.order[:, k:] == -1).all()
        assert (read.table["class"][:, k:] == -1).all()
        assert np.isnan(read.table["x"][:, k:]).all()


def test_more_than_255_objects_after_few(path):
    def numbered(k):
        labels = np.arange(2 * 18 * 18).reshape(2, 18, 18) % (k + 1)
        return Scenes(np.zeros((2, 18, 18, 3), np.uint8), labels)

    with ScenesWriter(path) as writer:
        for k in (3, 300, 7):
            writer.append(numbered(k))
    scenes = Scenes.load(path)
    assert scenes.labels.dtype == np.int32
    for i, k in enumerate((3, 300, 7)):
        np.testing.assert_array_equal(scenes.labels[2 * i : 2 * i + 2], numbered(k).labels)


def test_columns_may_have_any_other_name(path):
    # also when labels are widened
    column = np.arange(600).reshape(2, 300)
    table = {name: column for name in ("narrow", "..", "mask2", "é", "a b", "x" * 300)}
    labels = np.full((2, 4, 4), 300)
    with ScenesWriter(path) as writer:
        for k in (3, 300):
            columns = {name: column[:, :k] for name, column in table.items()}
            writer.append(Scenes(np.zeros((2, 4, 4, 3), np.uint8), labels * (k > 3), table=columns))
    scenes = Scenes.load(path)
    assert set(scenes.table) == set(table)
    for column in scenes.table.values():
        np.testing.assert_array_equal(column[:2, :3], table["narrow"][:, :3])
        np.testing.assert_array_equal(column[2:], table["narrow"])
    assert scenes.labels.max(axis=(1, 2)).tolist() == [0, 0, 300, 300]


def test_large_objects_are_cut_into_chunks(path):
    make(2, (1200, 1000), (12, 12)).save(path)
    with h5py.File(path, "r") as file:
        assert file["shapes"].chunks == (1, 6, 150000)  # 6 of 12 in 2**20 bytes


def test_an_interrupted_write_leaves_the_old_file(path):
    old = make(seed=1)
    old.save(path)
    for error in (KeyboardInterrupt, RuntimeError):
        with pytest.raises(error), ScenesWriter(path) as writer:  # noqa: PT012
            writer.append(make(seed=2))
            raise error
        assert_same(Scenes.load(path), old)
    assert [p.name for p in path.parent.iterdir()] == ["scenes.hdf5"]


def test_a_failing_write_leaves_the_old_file(path, monkeypatch):
    old = make(seed=1)
    old.save(path)
    write = ScenesWriter._write

    def fail(self, name, *rest):
        if name == "order":
            raise OSError("no space left on device")
        write(self, name, *rest)

    monkeypatch.setattr(ScenesWriter, "_write", fail)
    with pytest.raises(OSError, match="no space left"):
        make(seed=2).save(path)
    assert_same(Scenes.load(path), old)
    assert [p.name for p in path.parent.iterdir()] == ["scenes.hdf5"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_append_that_is_caught(path, monkeypatch, error):
    old = make(seed=1)
    old.save(path)
    write = ScenesWriter._write

    def fail(self, name, *rest):
        if name == "visibility":
            raise error("no space left on device")
        write(self, name, *rest)

    def try_again(writer):
        with writer:
            writer.append(make(seed=2))
            with monkeypatch.context() as patch:
                patch.setattr(ScenesWriter, "_write", fail)
                with pytest.raises(error):
                    writer.append(make(seed=3))
            with pytest.raises(RuntimeError, match="an append failed half-way. Begin again"):
                writer.append(make(seed=3))

    writer = ScenesWriter(path)
    with pytest.raises(RuntimeError, match="not written: an append failed"):
        try_again(writer)
    assert_same(Scenes.load(path), old)
    with writer:
        writer.append(make(seed=4))
    assert_same(Scenes.load(path), make(seed=4))
    assert [p.name for p in path.parent.iterdir()] == ["scenes.hdf5"]


def test_each_block_writes_a_new_file(path):
    writer = ScenesWriter(path)
    for n, size in ((6, (9, 7)), (4, (5, 5))):
        with writer:
            writer.append(make(n, size))
        assert_same(Scenes.load(path), make(n, size))
    with pytest.raises(ValueError, match="there are no scenes to save"), writer:
        pass
    with pytest.raises(ValueError, match="is being written already"), writer:  # noqa: PT012
        writer.append(make())
        writer.__enter__()
    assert_same(Scenes.load(path), make(4, (5, 5)))


def test_nothing_to_write(path):
    with pytest.raises(ValueError, match="there are no scenes to save"):
        make()[:0].save(path)
    with pytest.raises(ValueError, match="there are no scenes to save"), ScenesWriter(path):
        pass
    assert not list(path.parent.iterdir())


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        make().save(tmp_path / "no" / "scenes.hdf5")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        make().save(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(size=(9, 8)), "image differs"),
        (make(shapes=None), "shapes differs: none after"),
        (make(order=None, present=np.ones((6, 3), bool)), "order differs: none after"),
        (make(table={"class": np.zeros((6, 3), np.int8)}), "class differs"),
        (make(table={**make().table, "y": np.zeros((6, 3))}), "y differs"),
        (make(table={**make().table, "x": np.zeros((6, 3, 2), np.float32)}), "x differs"),
    ],
)
def test_pieces_must_be_alike(other, message, path):
    with ScenesWriter(path) as writer:
        writer.append(make())
        with pytest.raises(ValueError, match=message):
            writer.append(other)
        writer.append(make(seed=5))
    assert_same(Scenes.load(path)[6:], make(seed=5))


def test_bad_pieces(path):
    writer = ScenesWriter(path)
    with pytest.raises(ValueError, match="inside the block"):
        writer.append(make())
    with writer:
        writer.append(make())
        with pytest.raises(TypeError, match="scenes must be Scenes; got ndarray"):
            writer.append(make().images)
        with pytest.raises(ValueError, match="object 0 .* is seen in image 0, but absent"):
            writer.append(make(shapes=None, order=np.full((6, 3), -1)))
    with pytest.raises(ValueError, match="inside the block"):
        writer.append(make())
    assert len(Scenes.load(path)) == 6


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"rng": np.random.default_rng()}, TypeError, "metadata must hold what JSON can"),
        ({"text": "x" * 70_000}, ValueError, "metadata must take at most 60000 bytes"),
    ],
)
def test_metadata_that_cannot_be_written(metadata, error, message, path):
    with pytest.raises(error, match=message):
        make(metadata=metadata).save(path)
    assert not list(path.parent.iterdir())


# Bad files


def test_no_file(tmp_path):
    for read in (Scenes.load, Scenes.open):
        with pytest.raises(FileNotFoundError, match=re.escape("missing.hdf5")):
            read(tmp_path / "missing.hdf5")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.9, 0.999])
def test_truncated_files(share, path):
    make(30).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))) as caught:
        Scenes.load(path)
    assert "It may be truncated" in str(caught.value)


def test_damaged_pixels(path):
    make(30, (64, 64)).save(path)
    with h5py.File(path, "r") as file:
        chunk = file["image"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(repr(str(path)))):
        Scenes.load(path)


def test_another_kind_of_file(path):
    path.write_text("scenes")
    with pytest.raises(ValueError, match="path must be an HDF5 file of scenes"):
        Scenes.load(path)


IMAGE, MASK = np.zeros((10, 8, 8, 3), np.uint8), np.zeros((10, 8, 8, 1), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "it has no image"),
        ({"mask": None, "visibility": None}, "it has no mask, visibility"),
        ({"image": IMAGE / 255}, "its image is float64 of shape (10, 8, 8, 3)"),
        ({"image": IMAGE[..., :1]}, "its image is uint8 of shape (10, 8, 8, 1)"),
        ({"image": IMAGE[0]}, "its image is uint8 of shape (8, 8, 3)"),
        ({"mask": MASK[:9]}, "its mask is uint8 of shape (9, 8, 8, 1)"),
        ({"mask": MASK[:, :7]}, "its mask is uint8 of shape (10, 7, 8, 1)"),
        ({"mask": MASK * 0.5}, "its mask is float64"),
        ({"mask": MASK.astype(int) - 1}, "labels must be at least 0"),
        ({"mask": MASK + 4}, "labels must be at most 3, the number of objects; got 4"),
        ({"visibility": np.ones(10)}, "its visibility is float64 of shape (10,)"),
        ({"visibility": np.ones((10, 0))}, "its visibility is float64 of shape (10, 0)"),
        ({"visibility": np.ones((9, 4))}, "its visibility is float64 of shape (9, 4)"),
        ({"visibility": np.eye(10, 4)}, "labels must name objects that are present"),
        ({"order": np.zeros((10, 2), int)}, "its order is int64 of shape (10, 2)"),
        ({"order": np.zeros((10, 3), int)}, "order must name each of the 3 objects at most once"),
        ({"shapes": np.ones((10, 3, 8, 8), bool)}, "its shapes is bool of shape (10, 3, 8, 8)"),
        ({"shapes": np.ones((10, 3, 7), np.uint8)}, "its shapes is uint8 of shape (10, 3, 7)"),
    ],
)
def test_files_of_another_layout(changes, message, path):
    foreign(path, **changes)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        Scenes.load(path)
    assert str(path) in str(caught.value)
    h5py.File(path, "r+").close()  # refused while it is open for reading


def test_damaged_metadata(path):
    make().save(path)
    with h5py.File(path, "r+") as file:
        file.attrs["fastvis_metadata"] = "{"
    with pytest.raises(ValueError, match="cannot be read as one"):
        Scenes.open(path)


def test_a_closed_file(path):
    make().save(path)
    file = Scenes.open(path)
    assert repr(file) == f"SceneFile({str(path)!r}: 6 images of 9 x 7 pixels)"
    file.close()
    file.close()
    assert repr(file) == f"SceneFile({str(path)!r}, closed)"
    with pytest.raises(ValueError, match="is closed. Open it again"):
        file[0]


def test_without_h5py(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    path.touch()
    for use in (make().save, Scenes.load):
        with pytest.raises(ImportError, match=re.escape("pip install fastvis[data]")):
            use(path)


# Other processes, torch


def test_a_file_in_a_forked_child(path, in_fork):
    make().save(path)
    with Scenes.open(path) as file:
        file[0]
        total = in_fork(lambda: int(file[1:4].images.sum()))
        assert total == make().images[1:4].sum()
        assert_same(file[:], make())


def test_a_file_is_pickled_by_its_name(path):
    make().save(path)
    with Scenes.open(path) as file, pickle.loads(pickle.dumps(file)) as copy:
        assert isinstance(copy, SceneFile)
        assert_same(copy[:], file[:])


def test_two_threads(path, together):
    make(60).save(path)
    with Scenes.open(path) as file:
        expected = make(60)
        pieces = together(*[lambda k=k: [file[i] for i in range(k, 60, 3)] for k in range(3)])
    for k, piece in enumerate(pieces):
        for i, one in zip(range(k, 60, 3), piece):
            assert_same(one, expected[i])


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of forking
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_torch(from_file, workers, path):
    torch = pytest.importorskip("torch")
    scenes = make(10)
    scenes.save(path)
    source = Scenes.open(path) if from_file else scenes
    data = source.as_torch()
    assert len(data) == 10
    assert data[3].dtype == torch.float32
    assert data[3].is_contiguous()
    with pytest.raises(IndexError):
        data[10]
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    batches = list(loader)
    assert [len(b) for b in batches] == [4, 4, 2]
    expected = scenes.images.transpose(0, 3, 1, 2) / np.float32(255)
    np.testing.assert_array_equal(torch.cat(batches).numpy(), expected)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # of forking
@pytest.mark.parametrize("from_file", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_torch_with_what_is_known(from_file, workers, path):
    torch = pytest.importorskip("torch")
    scenes = make(10)
    scenes.save(path)
    data = (Scenes.open(path) if from_file else scenes).as_torch(targets=True)
    image, known = data[3]
    assert torch.equal(image, scenes.as_torch()[3])
    assert {name: x.dtype for name, x in known.items() if name != "table"} == {
        "labels": torch.int64, "order": torch.int64, "shapes": torch.bool, "present": torch.bool
    }  # fmt: skip
    loader = torch.utils.data.DataLoader(
        data, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None
    )
    batches = list(loader)
    assert torch.equal(torch.cat([b[0] for b in batches]), torch.stack(list(scenes.as_torch())))
    for name in ("labels", "order", "shapes", "present"):
        joined = torch.cat([b[1][name] for b in batches]).numpy()
        np.testing.assert_array_equal(joined, getattr(scenes, name))
    for name, column in scenes.table.items():
        joined = torch.cat([b[1]["table"][name] for b in batches]).numpy()
        np.testing.assert_array_equal(joined, column)
    plain = Scenes(scenes.images, scenes.labels).as_torch(targets=True)
    assert set(plain[-1][1]) == {"labels", "present"}


def test_importing_needs_neither_h5py_nor_torch():
    code = (
        "import sys, fastvis.scenes as s; s.Scenes, s.composite, s.metrics; "
        "print(sorted({'h5py', 'torch', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_names_of_the_package():
    import fastvis.scenes

    names = ("Composite", "SceneFile", "Scenes", "ScenesWriter", "composite", "metrics")
    assert set(names) <= set(dir(fastvis.scenes))
    assert callable(fastvis.scenes.composite)
    assert callable(fastvis.scenes.composite)  # the first access imports modules
    with pytest.raises(AttributeError, match="has no attribute 'scene'"):
        fastvis.scenes.scene  # noqa: B018


# Bad input

GOOD = {"images": IMAGE[:2], "labels": MASK[:2, ..., 0]}
TWO = np.zeros((2, 3, 8, 8), bool)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": IMAGE / 255.0}, TypeError, "images must be uint8; got dtype float64"),
        ({"images": IMAGE[..., 0]}, ValueError, "images must have shape (n, H, W, 3)"),
        ({"images": IMAGE[..., :2]}, ValueError, "got (10, 8, 8, 2)"),
        ({"images": IMAGE[:, :0]}, ValueError, "got (10, 0, 8, 3)"),
        ({"images": IMAGE}, ValueError, "labels must have one value for each pixel"),
        ({"labels": np.zeros((2, 8, 8))}, TypeError, "labels must be integers; got dtype float64"),
        ({"labels": np.zeros((2, 8, 7), int)}, ValueError, "shape (2, 8, 8); got (2, 8, 7)"),
        ({"labels": np.full((2, 8, 8), -1)}, ValueError, "labels must be at least 0"),
        ({"labels": np.full((2, 8, 8), 4), "shapes": TWO}, ValueError, "labels must be at most 3"),
        ({"shapes": TWO.astype(int)}, TypeError, "shapes must be bool; got dtype int64"),
        ({"shapes": TWO[:1]}, ValueError, "shapes must have shape (2, K, 8, 8)"),
        ({"shapes": TWO[..., :7]}, ValueError, "got (2, 3, 8, 7)"),
        ({"shapes": TWO[0]}, ValueError, "got (3, 8, 8)"),
        ({"shapes": TWO, "order": [[0, 1]] * 2}, ValueError, "the same number of objects"),
        ({"order": [[0, 1]] * 2, "table": {"x": np.ones((2, 3))}}, ValueError, "'x': (2, 3)"),
        ({"order": [0, 1]}, ValueError, "the same number of objects"),
        ({"order": [[0, 1]]}, ValueError, "order must have shape (2, 2); got (1, 2)"),
        ({"order": [[0, 1], [1, 1]]}, ValueError, "got [1, 1] for image 1"),
        ({"order": [[0, 1], [-1, 1]]}, ValueError, "got [-1, 1] for image 1"),
        ({"order": [[0, 2], [0, 1]]}, ValueError, "got [0, 2] for image 0"),
        ({"order": [[0.0, 1], [0, 1]]}, TypeError, "order must be integers"),
        ({"present": np.ones((2, 2))}, TypeError, "present must be bool"),
        ({"order": [[0, -1]] * 2, "present": np.ones((2, 2), bool)}, ValueError, "Leave it out"),
        ({"present": np.ones((1, 2), bool)}, ValueError, "present must have shape (2, K)"),
        ({"table": [1]}, TypeError, "table must be a dict of arrays (n, K, ...); got list"),
        ({"table": {"x": np.ones(2)}}, ValueError, "(n, K, ...); got shape (2,)"),
        ({"table": {"x": np.ones((3, 1))}}, ValueError, "one row for each of 2 image(s)"),
        ({"table": {"x": [["a"], ["b"]]}}, TypeError, "Put names into metadata"),
        ({"table": {"mask": np.ones((2, 1))}}, ValueError, "got 'mask'"),
        ({"table": {"a/b": np.ones((2, 1))}}, ValueError, "got 'a/b'"),
        ({"table": {".": np.ones((2, 1))}}, ValueError, "got '.'"),
        ({"table": {"a\0b": np.ones((2, 1))}}, ValueError, "got 'a\\x00b'"),
        ({"table": {3: np.ones((2, 1))}}, ValueError, "got 3"),
        ({"metadata": "classes"}, TypeError, "metadata must be a dict; got str"),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Scenes(**{**GOOD, **changes})


def test_what_needs_shapes_and_order():
    scenes = make()
    for parts in ({"shapes": scenes.shapes}, {"order": scenes.order}):
        with pytest.raises(ValueError, match="occlusion needs shapes and order"):
            Scenes(scenes.images, scenes.labels, **parts).occlusion()


def test_an_absent_object_that_is_seen():
    scenes = Scenes(**{**GOOD, "labels": np.full((2, 8, 8), 2)}, order=[[1, 0], [0, -1]])
    with pytest.raises(ValueError, match=re.escape("object 1 (label 2) is seen in image 1")):
        scenes.visibility  # noqa: B018


def test_frozen():
    with pytest.raises(AttributeError):
        make().images = None
