"""VGGLoss against an independent NumPy VGG-19, its formulas, and files that are not its weights."""

import os
import pickle

import numpy as np
import pytest
from scipy.ndimage import correlate

torch = pytest.importorskip("torch", reason="VGGLoss needs the torch extra")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs the torch extra")

from fastvis.textures.vgg import VGGLoss  # noqa: E402

# Index in torchvision's vgg19.features and number of maps; P is a pooling.
PLAN = [(0, 5), (2, 4), "P", (5, 6), (7, 4), "P", (10, 5), (12, 4), (14, 5), (16, 4), "P"]
PLAN += [(19, 7), (21, 4), (23, 5), (25, 4), "P", (28, 8)]
READ_OUT = (0, 5, 10, 19, 28)  # conv1_1, conv2_1, conv3_1, conv4_1, conv5_1


def random_weights(seed=0):
    rng = np.random.default_rng(seed)
    weights, n_in = {}, 3
    for index, n_out in (step for step in PLAN if step != "P"):
        scale = np.sqrt(2 / (9 * n_in))
        weights[f"features.{index}.weight"] = scale * rng.normal(size=(n_out, n_in, 3, 3))
        weights[f"features.{index}.bias"] = 0.2 * rng.random(n_out)
        n_in = n_out
    return weights


def as_float32_tensors(weights):
    return {key: torch.tensor(value, dtype=torch.float32) for key, value in weights.items()}


def numpy_pool(x, pooling):
    height, width, n = x.shape
    cells = x[: height // 2 * 2, : width // 2 * 2].reshape(height // 2, 2, width // 2, 2, n)
    return cells.mean(axis=(1, 3)) if pooling == "average" else cells.max(axis=(1, 3))


def numpy_features(image, weights, pooling="average"):
    """The five feature matrices F of (1), each (n maps, M positions), by scipy's correlation."""
    x = (image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    features = []
    for step in PLAN:
        if step == "P":
            x = numpy_pool(x, pooling)
            continue
        kernels, bias = (weights[f"features.{step[0]}.{kind}"] for kind in ("weight", "bias"))
        maps = [
            bias[o] + sum(correlate(x[..., i], k, mode="constant") for i, k in enumerate(kernel))
            for o, kernel in enumerate(kernels)
        ]
        x = np.maximum(np.stack(maps, axis=-1), 0)
        if step[0] in READ_OUT:
            features.append(x.reshape(-1, x.shape[-1]).T)
    return features


def numpy_grams(image, weights, pooling="average"):
    return [f @ f.T / f.shape[1] for f in numpy_features(image, weights, pooling)]


def image_of(height, width, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).random((height, width, 3)).astype(dtype)


@pytest.fixture(scope="module")
def weights():
    return random_weights()


@pytest.fixture(scope="module")
def model(weights):
    return VGGLoss(weights)


# ---- Gram matrices: equation (1)


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("size", [(16, 16), (19, 37), (33, 24)])
def test_gram_equals_numpy(weights, pooling, size):
    image = image_of(*size)
    grams = VGGLoss(weights, pooling).gram(image)
    assert len(grams) == 5
    for ours, theirs in zip(grams, numpy_grams(image, weights, pooling)):
        assert theirs.any()
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-13)


def test_gram_by_hand():
    # conv1_1 copies the channels: its Gram matrix is the second moment of rectified colors.
    weights = random_weights()
    weights["features.0.weight"] = np.zeros((3, 3, 3, 3))
    weights["features.0.weight"][[0, 1, 2], [0, 1, 2], 1, 1] = 1
    weights["features.0.bias"] = np.zeros(3)
    image = np.zeros((2, 2, 3))
    image[..., 0] = 0.485 + 0.229 * np.array([[1, 2], [-1, 0]])
    image[..., 1] = 0.456 + 0.224 * np.array([[1, 1], [1, 1]])
    (gram,) = VGGLoss(weights, layers=["conv1_1"]).gram(image)
    np.testing.assert_allclose(gram, [[5 / 4, 3 / 4, 0], [3 / 4, 1, 0], [0, 0, 0]], atol=1e-12)


def test_poolings_differ_only_after_the_first(weights):
    image = image_of(20, 20)
    average, largest = VGGLoss(weights).gram(image), VGGLoss(weights, "max").gram(image)
    np.testing.assert_array_equal(average[0], largest[0])
    for a, b in zip(average[1:], largest[1:]):
        assert np.abs(a - b).max() > 0.01 * np.abs(a).max()


def test_layers_in_the_order_asked(model, weights):
    image = image_of(16, 16)
    grams = VGGLoss(weights, layers=("conv4_1", "conv2_1")).gram(image)
    expected = model.gram(image)
    np.testing.assert_array_equal(grams[0], expected[3])
    np.testing.assert_array_equal(grams[1], expected[1])


def test_tiling_leaves_the_interior_statistics(model):
    # (1) is a mean over positions: a tiled image differs only by its borders.
    tile = image_of(32, 32)
    small, large = (model.gram(np.tile(tile, (n, n, 1)))[0] for n in (2, 8))
    np.testing.assert_allclose(small, large, rtol=0.1)


# ---- the distance: equations (6), (7), and the released code's


def test_layer_normalization_is_6_and_7(model, weights):
    image, reference = image_of(20, 18, 1), image_of(27, 16, 2)
    pairs = zip(numpy_grams(image, weights), numpy_grams(reference, weights))
    expected = np.mean([((g - r) ** 2).sum() / (r**2).sum() for g, r in pairs])
    assert model(image, reference) == pytest.approx(expected, rel=1e-10)
    assert expected > 1e-3


def test_common_normalization_is_the_released_codes(weights):
    # as in that code: unnormalized F F^T, images of one size
    image, reference = image_of(20, 22, 1), image_of(20, 22, 2)
    syn = [f @ f.T for f in numpy_features(image, weights)]
    ref = [f @ f.T for f in numpy_features(reference, weights)]
    energy = sum(np.mean(r**2) for r in ref)
    expected = 0.2 * sum(np.mean((g - r) ** 2) for g, r in zip(syn, ref)) / energy
    model = VGGLoss(weights, normalization="common")
    assert model(image, reference) == pytest.approx(expected, rel=1e-10)
    assert model(image, reference) != pytest.approx(VGGLoss(weights)(image, reference), rel=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("normalization", ["layer", "common"])
def test_zero_for_the_same_image(weights, normalization, dtype):
    model = VGGLoss(weights, normalization=normalization)
    image = image_of(16, 21, dtype=dtype)
    assert model(image, image) == 0
    loss, grad = model.loss_and_grad(image, model.target(image))
    assert loss == 0
    assert not grad.any()


def test_relative_to_the_reference_not_symmetric(model):
    bright, dark = image_of(16, 16, 1), 0.2 * image_of(16, 16, 2)
    assert model(bright, dark) != pytest.approx(model(dark, bright), rel=0.01)


# ---- gradient


@pytest.mark.parametrize("pooling", ["average", "max"])
@pytest.mark.parametrize("normalization", ["layer", "common"])
def test_gradient_by_finite_differences(weights, pooling, normalization):
    model = VGGLoss(weights, pooling, normalization=normalization)
    image, target = image_of(17, 20, 1), model.target(image_of(24, 16, 2))
    loss, grad = model.loss_and_grad(image, target)
    assert grad.shape == image.shape
    assert grad.flags.c_contiguous
    assert loss == pytest.approx(model.loss(image, target), rel=1e-12)
    rng = np.random.default_rng(0)
    probes = [rng.normal(size=image.shape) for _ in range(3)]
    for pixel in [(0, 0, 0), (16, 19, 2), (8, 5, 1)]:  # corners see the padding
        probes.append(np.zeros(image.shape))
        probes[-1][pixel] = 1
    for probe in probes:
        step = 1e-6 / np.abs(probe).max()
        ends = [model.loss(image + sign * step * probe, target) for sign in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert (grad * probe).sum() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_gradient_inside_no_grad_and_of_a_read_only_image(model):
    image, target = image_of(16, 16, 1), model.target(image_of(16, 16, 2))
    expected = model.loss_and_grad(image, target)[1]
    image.flags.writeable = False
    with torch.no_grad():
        np.testing.assert_array_equal(model.loss_and_grad(image, target)[1], expected)


# ---- dtypes, several images, module


def test_dtype_is_kept(model):
    image, reference = image_of(16, 16, 1), image_of(20, 20, 2)
    results = {}
    for dtype in (np.float32, np.float64):
        target = model.target(reference.astype(dtype))
        loss, grad = model.loss_and_grad(image.astype(dtype), target)
        assert type(loss) is float
        assert {g.dtype for g in target} == {grad.dtype} == {np.dtype(dtype)}
        results[dtype] = loss, grad
    loss, grad = results[np.float64]
    assert results[np.float32][0] == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(results[np.float32][1], grad, atol=1e-3 * np.abs(grad).max())
    assert results[np.float32][0] != loss  # two precisions, not one cast


def test_uint8_is_divided_by_255(model):
    image = (255 * image_of(16, 16)).astype(np.uint8)
    expected = model.gram(image.astype(np.float32) / np.float32(255))
    for ours, theirs in zip(model.gram(image), expected):
        np.testing.assert_array_equal(ours, theirs)


def test_target_of_several_images_is_the_mean(model):
    patches = [image_of(16, 16, 1), image_of(24, 17, 2), image_of(31, 20, 3)]
    for mean, *grams in zip(model.target(patches), *map(model.gram, patches)):
        np.testing.assert_allclose(mean, np.mean(grams, axis=0), rtol=1e-12)
    stack = np.stack([image_of(16, 16, seed, np.float32) for seed in range(4)])
    for mean, *grams in zip(model.target(stack), *map(model.gram, stack)):
        assert mean.dtype == np.float32
        np.testing.assert_allclose(mean, np.mean(grams, axis=0), rtol=1e-5, atol=1e-7)


def test_module_gives_the_same_grams_and_differentiates(weights):
    model = VGGLoss(weights)
    images = np.stack([image_of(16, 18, seed) for seed in range(2)])
    module = model.module.double()  # changes only this module, see the last assertion
    pixels = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
    grams = module(pixels)
    for n, image in enumerate(images):
        for ours, theirs in zip(grams, model.gram(image)):
            np.testing.assert_allclose(ours[n].detach().numpy(), theirs, rtol=1e-5, atol=1e-6)
    sum(gram.sum() for gram in grams).backward()
    assert pixels.grad.abs().sum() > 0
    assert list(module.parameters()) == []
    assert model.gram(images[0].astype(np.float32))[0].dtype == np.float32


def test_model_takes_no_random_numbers_and_copies_the_weights(weights):
    tensors = {key: torch.tensor(value) for key, value in weights.items()}
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = VGGLoss(tensors)
    image = image_of(16, 16)
    grams = model.gram(image)
    assert torch.equal(torch.get_rng_state(), before)
    for tensor in tensors.values():
        tensor.zero_()
    np.testing.assert_array_equal(model.gram(image)[4], grams[4])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(model, weights):
    image, reference = image_of(20, 20, 1), image_of(16, 16, 2)
    on_gpu = VGGLoss(weights, device="cuda")
    loss, grad = on_gpu.loss_and_grad(image, on_gpu.target(reference))
    expected, expected_grad = model.loss_and_grad(image, model.target(reference))
    assert loss == pytest.approx(expected, rel=1e-8)
    np.testing.assert_allclose(grad, expected_grad, atol=1e-8 * np.abs(expected_grad).max())


@pytest.mark.parametrize("name", ["synthesize", "inpaint"])
def test_methods_pass_the_model_on(model, monkeypatch, name):
    calls = []
    spy = lambda *args, **kwargs: calls.append((args, kwargs)) or "result"  # noqa: E731
    monkeypatch.setattr(f"fastvis.textures.{name}", spy, raising=False)
    args = ("image", "mask")[: 1 + (name == "inpaint")]
    assert getattr(model, name)(*args, max_iter=3) == "result"
    assert calls == [(args, {"model": model, "max_iter": 3})]


# ---- weight files


def write(path, weights, form):
    tensors = as_float32_tensors(weights)
    if form == "no prefix":
        tensors = {key.removeprefix("features."): value for key, value in tensors.items()}
    if form in ("extra keys", "extra safetensors"):
        tensors |= {"features.30.weight": torch.ones(2), "classifier.0.weight": torch.ones(9, 9)}
    if form.endswith("safetensors"):
        safetensors_torch.save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=form != "old zipless")


FORMS = ["plain", "no prefix", "extra keys", "old zipless", "safetensors", "extra safetensors"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_file(tmp_path, weights, form):
    path = tmp_path / "weights"  # told apart by content, not by suffix
    write(path, weights, form)
    model = VGGLoss(os.fspath(path) if form == "plain" else path)
    path.unlink()  # nothing of the file is needed any more
    image = image_of(16, 16)
    for ours, theirs in zip(model.gram(image), VGGLoss(as_float32_tensors(weights)).gram(image)):
        np.testing.assert_array_equal(ours, theirs)


def test_half_precision_weights_are_computed_in_full(tmp_path, weights):
    path = tmp_path / "half.pth"
    torch.save({key: value.half() for key, value in as_float32_tensors(weights).items()}, path)
    image = image_of(16, 16, dtype=np.float32)
    rounded = {key: value.astype(np.float16).astype(np.float64) for key, value in weights.items()}
    for ours, theirs in zip(VGGLoss(path).gram(image), numpy_grams(image, rounded)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_layers_need_no_later_weights(weights):
    early = {key: value for key, value in weights.items() if int(key.split(".")[1]) <= 5}
    model = VGGLoss(early, layers=("conv1_1", "conv2_1"))
    assert [gram.shape for gram in model.gram(image_of(2, 2))] == [(5, 5), (6, 6)]


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth' does not exist\. Pass the path"):
        VGGLoss(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="is a directory"):
        VGGLoss(tmp_path)


@pytest.mark.parametrize("form", ["plain", "old zipless", "safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 200, 0.5, 0.98])
def test_truncated_file(tmp_path, weights, form, keep):
    path = tmp_path / "cut"
    write(path, weights, form)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match=r"weights file '.*cut' could not be read .* cut short"):
        VGGLoss(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html></html>", b"\0" * 64, b"12345678{}"])
def test_not_a_weight_file(tmp_path, content):
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="page.pth' could not be read"):
        VGGLoss(path)


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, path):
        self.path = os.fspath(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("writer", ["zip", "zipless", "pickle"])
@pytest.mark.parametrize("inside", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, weights, writer, inside):
    sprung = tmp_path / "sprung"
    content = Trap(sprung)
    if inside:
        content = as_float32_tensors(weights) | {"features.0.weight": content}
    path = tmp_path / "trap.pth"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "zip")
    with pytest.raises(ValueError, match="holds other things than tensors, which are never loaded"):
        VGGLoss(path)
    assert not sprung.exists()
    if writer == "zip":  # the trap works
        torch.load(path, weights_only=False)
        assert sprung.exists()


def test_a_file_that_is_no_state_dict(tmp_path):
    torch.save(torch.ones(3), tmp_path / "tensor.pth")
    with pytest.raises(ValueError, match="must hold a state dict; got Tensor"):
        VGGLoss(tmp_path / "tensor.pth")


def test_missing_keys_name_the_file_and_the_first_key(tmp_path, weights):
    path = tmp_path / "other.pth"
    tensors = as_float32_tensors(weights)
    del tensors["features.16.weight"], tensors["features.28.bias"]
    torch.save(tensors, path)
    with pytest.raises(
        ValueError, match=r"other.pth' must be .* vgg19; 2 of .* first 'features.16.weight'"
    ):
        VGGLoss(path)
    with pytest.raises(ValueError, match=r"26 of its 26 .* entries found: 'state_dict'"):
        VGGLoss({"state_dict": tensors})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features.0.weight", np.ones((5, 1, 3, 3)), r"\(5, 3, 3, 3\); got \(5, 1, 3, 3\)"),
        ("features.7.weight", np.ones((4, 5, 3, 3)), r"features.7.weight .*\(4, 6, 3, 3\); got"),
        ("features.7.weight", np.ones((4, 6, 5, 5)), r"\(4, 6, 3, 3\); got \(4, 6, 5, 5\)"),
        ("features.7.weight", torch.tensor(1.0), r"features.7.weight must have shape"),
        ("features.2.bias", np.ones(5), r"features.2.bias must have shape \(4,\); got \(5,\)"),
        ("features.2.bias", np.full(4, np.nan), r"features.2.bias must be finite"),
        ("features.2.bias", torch.full((4,), torch.nan), r"features.2.bias must hold finite"),
        ("features.2.bias", torch.ones(4, dtype=torch.int64), r"finite floats; got dtype"),
    ],
)
def test_wrong_tensors(weights, key, value, message):
    with pytest.raises(ValueError, match=message):
        VGGLoss(weights | {key: value})


# ---- errors at the door


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 20)), r"image must have 3 channels .*got shape \(20, 20\).*np\.stack"),
        (np.zeros((20, 20, 4)), r"image must have 3 channels .*drop alpha"),
        (np.zeros((15, 20, 3)), r"at least 16 x 16 pixels for conv5_1.*got 15 x 20"),
        (np.full((16, 16, 3), 255.0), r"values in \[0, 1\]; got 255"),
        (np.full((16, 16, 3), np.nan), r"image must be finite"),
    ],
)
def test_wrong_images(model, image, message):
    with pytest.raises(ValueError, match=message):
        model.gram(image)


def test_wrong_images_in_a_list_and_in_the_other_methods(model):
    good = image_of(16, 16)
    target = model.target(good)
    with pytest.raises(ValueError, match=r"images\[1\] must have 3 channels"):
        model.target([good, good[..., 0]])
    with pytest.raises(ValueError, match="at least one image"):
        model.target([])
    for method in (model.loss, model.loss_and_grad):
        with pytest.raises(ValueError, match="image must have at least 16 x 16"):
            method(good[:8], target)
    with pytest.raises(ValueError, match=r"images must have values in \[0, 1\]"):
        model(good, 255 * good)
    assert np.isfinite(model.loss(good - 0.5, target))  # an optimizer's step outside
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\); got \(1, 16, 16, 3\)"):
        model.module(torch.zeros(1, 16, 16, 3))
    with pytest.raises(ValueError, match="images must have at least 16 x 16"):
        model.module(torch.zeros(1, 3, 8, 16))


def test_wrong_targets(model):
    image = image_of(16, 16)
    target = model.target(image)
    with pytest.raises(ValueError, match="tuple of 5 Gram matrices, one a layer; got 4"):
        model.loss(image, target[:4])
    with pytest.raises(ValueError, match="one a layer; got ndarray"):
        model.loss(image, image)
    with pytest.raises(ValueError, match=r"target \(conv1_1\) must have shape \(5, 5\); got"):
        model.loss(image, target[::-1])


def test_reference_that_drives_no_unit(weights):
    # a layer that never responds: (6) would be 0 / 0
    dead = weights | {"features.28.bias": np.full(8, -1e3)}
    image = image_of(16, 16)
    with pytest.raises(ValueError, match=r"target \(conv5_1\) must not be all zero"):
        VGGLoss(dead)(image, image)
    assert VGGLoss(dead, normalization="common")(image, image_of(16, 16, 1)) > 0
    model = VGGLoss(dead, layers=["conv5_1"], normalization="common")
    with pytest.raises(ValueError, match="target must not be all zero"):
        model(image, image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "mean"}, "pooling must be one of 'average', 'max'"),
        ({"normalization": "sum"}, "normalization must be one of"),
        ({"layers": ("conv5_2",)}, "layers must be one of"),
        ({"layers": ()}, "one or more different"),
        ({"layers": ("conv1_1", "conv1_1")}, "one or more different"),
    ],
)
def test_wrong_options(weights, options, message):
    with pytest.raises(ValueError, match=message):
        VGGLoss(weights, **options)
