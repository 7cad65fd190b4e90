"""The leaves kernels for GPUs against the CPU's: in Numba's simulator, or on a GPU."""

import sys
from dataclasses import replace

import numba
import numpy as np
import pytest

cuda = pytest.importorskip("numba.cuda", reason="needs the cuda extra")
SIMULATED = bool(numba.config.ENABLE_CUDASIM)
if not (SIMULATED or cuda.is_available()):
    pytest.skip("needs NUMBA_ENABLE_CUDASIM=1 or a CUDA GPU", allow_module_level=True)

from fastvis._kernels import leaves  # noqa: E402
from fastvis._kernels.leaves import cuda as kernel  # noqa: E402

from ..kernels.cases import leaves as cases  # noqa: E402

# a tiny problem is a tiny grid
pytestmark = pytest.mark.filterwarnings("ignore:Grid size .* low occupancy")

# images, height, width, leaves of each; blocks of 4 x 2 pixels take 8 leaves at a time
SIZES = [(1, 1, 1, 2), (3, 1, 9, 5), (2, 5, 7, 17)]
KINDS = {name: options["kind"] for name, options in cases.OPTIONS.items()}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def fast_switches():
    """The simulator has a thread for each pixel of a block, and one that asks them all the time."""
    interval = sys.getswitchinterval()
    if SIMULATED:
        sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 4 x 2 pixels: few pixels make many blocks, few leaves are more than a block takes.

    A compiled kernel keeps its blocks.
    """
    if SIMULATED:
        patch_blocks(monkeypatch, 4, 2)


def patch_blocks(monkeypatch, nx, ny):
    values = {"NX": nx, "NY": ny, "CHUNK": nx * ny, "N_WORDS": -(-nx * ny // 32), "THREADS": 16}
    for name, value in values.items():
        monkeypatch.setattr(kernel, name, value)


def table(kind, arrays):
    """Leaves of the contract's inputs, of all images."""
    n, m = len(arrays["blank"]), len(arrays["centers"])
    if kind == 0:
        parts = leaves.ellipses(arrays["centers"], *arrays["radii"].T, arrays["angles"])
    elif kind == 1:
        parts = leaves.polygons(arrays["centers"], arrays["corners"], arrays["n_corners"])
    else:
        parts = leaves.masks(arrays["centers"], arrays["index"], arrays["atlas"])
    return parts.at(slice(None), m // n * np.arange(n + 1))


def names_of(parts):
    """Labels 1, 2, ... in each image."""
    ranks = [np.arange(1, m + 1) for m in np.diff(parts.offsets)]
    return np.concatenate(ranks).astype(np.int32)


def move(x):
    """Arrays and tables, on the device."""
    if isinstance(x, np.ndarray):
        return cuda.to_device(np.ascontiguousarray(x))
    return replace(x, **{name: move(getattr(x, name)) for name in kernel.FIELDS})


def cover(parts, labels, blank=False, names=None, at=None, **palette):
    """Labels, and images if there is a palette, by the launcher."""
    n = len(labels)
    names = names_of(parts) if names is None else names
    at = np.arange(n) if at is None else at
    colors = palette.get("colors", np.zeros((0, 3), np.uint8))
    background = palette.get("background", np.zeros((0, 3), np.uint8))
    images = palette.get("images", np.zeros((n, 0, 0, 3), np.uint8))
    given = [move(x) for x in (at, parts, names, colors, background, labels, images)]
    kernel.launch_paint(blank, *given)
    return given[-2].copy_to_host(), given[-1].copy_to_host()


def whole_shapes(parts, height, width):
    out = move(np.ones((len(parts.kinds), height, width), bool))
    kernel.launch_shapes(move(parts), out)
    return out.copy_to_host()


def assert_same_labels(parts, labels, blank=False, names=None, at=None, **palette):
    """Labels by both kernels, of leaves behind ``labels``, and images."""
    names = names_of(parts) if names is None else names
    found, images = cover(parts, labels, blank, names, at, **palette)
    expected, expected_palette = labels.copy(), {key: x.copy() for key, x in palette.items()}
    leaves.cover(parts, names, expected, blank, at=at, **expected_palette)
    np.testing.assert_array_equal(found, expected)
    if palette:
        np.testing.assert_array_equal(images, expected_palette["images"])
    return found


@kinds
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_as_defined_and_as_on_the_cpu(rng, size, kind):
    arrays = cases.inputs(size, np.float64, rng)
    n, height, width, _ = size
    parts = table(kind, arrays)
    given = {key: arrays[key] for key in ("colors", "background")}
    given["images"] = np.full((n, height, width, 3), 77, np.uint8)
    labels, images = cover(parts, np.full((n, height, width), 77, np.int32), True, **given)
    shapes = whole_shapes(parts, height, width)
    outputs = {"labels": labels, "images": images, "shapes": shapes}
    for make in cases.IMPLEMENTATIONS.values():
        for name, expected in make(arrays, kind=kind)(**arrays).items():
            assert outputs[name].dtype == expected.dtype
            np.testing.assert_array_equal(outputs[name], expected, err_msg=name)


def test_blocks_of_the_true_size(rng):
    size = (1, kernel.NY + 1, kernel.NX - 1, kernel.CHUNK + 1)
    arrays = cases.inputs(size, np.float64, rng)
    arrays["radii"] /= 10
    labels = assert_same_labels(table(0, arrays), np.zeros(arrays["blank"].shape, np.int32))
    assert labels.max() > kernel.CHUNK // 2


@pytest.mark.parametrize("blocks", [(1, 2), (11, 3), (8, 8)], ids=str)
def test_other_blocks_same_labels(rng, blocks, monkeypatch):
    if not SIMULATED:
        pytest.skip("a compiled kernel keeps its blocks")
    patch_blocks(monkeypatch, *blocks)
    arrays = cases.inputs((1, 5, 9, 70), np.float64, rng)
    arrays["radii"] = arrays["radii"] / 3 + 0.3
    labels = assert_same_labels(table(0, arrays), np.zeros(arrays["blank"].shape, np.int32))
    assert labels.max() > 32  # in the second word, too


@pytest.mark.usefixtures("small_blocks")
def test_kinds_in_one_image(rng):
    arrays = cases.inputs((2, 6, 7, 17), np.float64, rng)
    ellipses, polygons, masks = (table(kind, arrays) for kind in range(3))
    polygons = replace(polygons, atlas=masks.atlas)
    masks = replace(masks, corners=polygons.corners)
    kind = rng.integers(0, 3, len(ellipses.kinds))
    parts = leaves.either(kind == 0, ellipses, leaves.either(kind == 1, polygons, masks))
    parts = replace(parts, offsets=ellipses.offsets)
    labels = assert_same_labels(parts, np.zeros((2, 6, 7), np.int32))
    seen = parts.kinds[(labels - 1 + parts.offsets[:-1, None, None])[labels > 0]]
    assert set(seen) == {0, 1, 2}


@kinds
@pytest.mark.usefixtures("small_blocks")
def test_only_open_pixels(rng, kind):
    arrays = cases.inputs((2, 6, 7, 12), np.float64, rng)
    parts, labels = table(kind, arrays), np.zeros((2, 6, 7), np.int32)
    labels[rng.random(labels.shape) < 0.5] = 1000
    given = {key: arrays[key] for key in ("colors", "background")}
    given["images"] = rng.integers(0, 256, (2, 6, 7, 3), dtype=np.uint8)
    names = rng.permutation(len(parts.kinds)).astype(np.int32) + 1
    after = assert_same_labels(parts, labels, names=names, **given)
    assert (after[labels > 0] == 1000).all()
    assert ((labels == 0) & (after > 0)).any()


@kinds
@pytest.mark.usefixtures("small_blocks")
def test_rows_of_the_table_hold(rng, kind):
    # at the border they decide what the formula may see otherwise
    arrays = cases.inputs((1, 6, 7, 9), np.float64, rng)
    parts = table(kind, arrays)
    whole = assert_same_labels(parts, np.zeros((1, 6, 7), np.int32))
    parts.rows[:, 0] += 1
    parts.rows[::2, 1] -= 1
    assert (assert_same_labels(parts, np.zeros((1, 6, 7), np.int32)) != whole).any()
    np.testing.assert_array_equal(whole_shapes(parts, 6, 7), leaves.whole_shapes(parts, 6, 7))


@pytest.mark.usefixtures("small_blocks")
def test_some_images(rng):
    arrays = cases.inputs((2, 5, 6, 10), np.float64, rng)
    labels = np.zeros((4, 5, 6), np.int32)
    images = rng.integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    given = {"colors": arrays["colors"], "background": arrays["colors"][:4], "images": images}
    for blank in (False, True):
        after = assert_same_labels(table(0, arrays), labels, blank, at=np.array([3, 1]), **given)
        assert after.any(axis=(1, 2)).tolist() == [False, True, False, True]


@pytest.mark.usefixtures("small_blocks")
def test_images_without_leaves(rng):
    arrays = cases.inputs((1, 5, 6, 10), np.float64, rng)
    parts = replace(table(0, arrays), offsets=np.array([0, 0, 10, 10]))
    labels = assert_same_labels(parts, np.full((3, 5, 6), 77, np.int32), blank=True)
    assert labels.any(axis=(1, 2)).tolist() == [False, True, False]
    none = parts.at(slice(0, 0), [0, 0])
    assert not cover(none, np.full((1, 5, 6), 77, np.int32), True)[0].any()
    assert whole_shapes(none, 5, 6).shape == (0, 5, 6)


def on_the_border(rng, kind, n, height, width):
    """Leaves, one an image, with a pixel on the border, but for rounding."""
    pixel = rng.integers(0, (height, width), (n, 2)).astype(np.float64)
    centers = rng.uniform(0, (height, width), (n, 2))
    dy, dx = (pixel - centers).T
    if kind == 0:
        a, b = rng.uniform(1, 5, (2, n))
        parts = leaves.ellipses(centers, a, b, rng.uniform(-9, 9, n))
        parts.conic[:, 2] = (dx + parts.conic[:, 0] * dy) ** 2 + parts.conic[:, 1] * dy**2
        parts.conic[:, 2] *= 1 + 2.0**-52 * rng.integers(-1, 2, n)
    else:
        side, third = rng.uniform(-4, 4, (2, n, 2))
        ends = np.array([[1], [-1]]) * rng.uniform(0.1, 1, (n, 2, 1)) * side[:, None]
        corners = np.concatenate([np.stack([dy, dx], axis=1)[:, None] + ends, third[:, None]], 1)
        parts = leaves.polygons(centers, corners)
    everywhere = np.tile([0, max(height, width)], (n, 1))
    parts = replace(parts, rows=everywhere, columns=everywhere)
    return replace(parts, offsets=np.arange(n + 1)), pixel.astype(int)


@pytest.mark.parametrize("kind", [0, 1], ids=["ellipses", "polygons"])
@pytest.mark.usefixtures("small_blocks")
def test_pixels_on_the_border(rng, kind):
    # which change sides where a product is not rounded, or a term moved across an inequality
    n = 40 if SIMULATED else 5000
    parts, pixel = on_the_border(rng, kind, n, 3, 4)
    labels = assert_same_labels(parts, np.zeros((n, 3, 4), np.int32))
    assert 0.1 < labels[np.arange(n), *pixel.T].mean() < 0.9


@pytest.mark.usefixtures("small_blocks")
def test_disks_through_whole_numbers():
    # (3, 4) and (0, 5) lie on the border; a tile begins with the second's last column
    centers, radius = np.array([[5.0, 3], [2, 7]]), np.array([5.0, 5])
    parts = leaves.ellipses(centers, radius, radius, 0 * radius)
    parts = replace(parts, offsets=np.arange(3))
    y, x = np.indices((11, 13))
    expected = [(y - cy) ** 2 + (x - cx) ** 2 <= 25 for cy, cx in centers]
    labels = assert_same_labels(parts, np.zeros((2, 11, 13), np.int32))
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(whole_shapes(parts, 11, 13), expected)


def test_no_product_is_fused():
    if SIMULATED:
        pytest.skip("the simulator compiles nothing")
    parts, _ = on_the_border(np.random.default_rng(0), 0, 1, 3, 4)
    cover(parts, np.zeros((1, 3, 4), np.int32))
    for code in kernel.paint.inspect_asm().values():
        assert "sqrt.rn.f64" in code
        assert "mul.rn.f64" in code
        assert "fma" not in code


@pytest.mark.usefixtures("small_blocks")
def test_tensors(rng, monkeypatch):
    torch = pytest.importorskip("torch", reason="needs the torch extra")
    if SIMULATED:  # which knows no array interface: in its place, memory that is shared
        monkeypatch.setattr(cuda, "as_cuda_array", lambda x, sync: x.numpy(), raising=False)
        monkeypatch.setattr(cuda, "external_stream", lambda handle: handle, raising=False)
        device, stream = "cpu", 0
    elif torch.cuda.is_available():
        device, stream = "cuda", torch.cuda.current_stream().cuda_stream
    else:
        pytest.skip("this torch has no CUDA")

    def tensor(x):
        return torch.as_tensor(x, device=device)

    arrays = cases.inputs((2, 6, 5, 10), np.float64, rng)
    parts = table(0, arrays)
    moved = replace(parts, **{name: tensor(getattr(parts, name)) for name in kernel.FIELDS})
    names = tensor(names_of(parts))
    labels = tensor(np.full((2, 6, 5), 77, np.int32))
    given = {key: tensor(arrays[key]) for key in ("colors", "background")}
    given["images"] = tensor(np.zeros((2, 6, 5, 3), np.uint8))
    kernel.cover(moved, names, labels, blank=True, stream=stream, **given)
    again = tensor(np.zeros((2, 6, 5), np.int32))
    kernel.cover(moved, names, again, stream=stream)
    shapes = kernel.whole_shapes(moved, 6, 5, stream=stream)
    outputs = {"labels": labels, "images": given["images"], "shapes": shapes}
    np.testing.assert_array_equal(again.cpu(), labels.cpu())
    for name, expected in cases.IMPLEMENTATIONS["reference"](arrays, kind=0)(**arrays).items():
        assert outputs[name].device.type == device
        found = outputs[name].cpu().numpy()
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=name)
