"""The Gram model in torch operations, run on the CPU and, where there is one, on a GPU."""

import gc
import itertools
import weakref
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fastvis.torch needs the torch extra")

from torch.autograd import gradcheck  # noqa: E402

from fastvis._kernels.gram import reference  # noqa: E402
from fastvis.textures import FilterBank, GramModel, synthesize  # noqa: E402
from fastvis.torch import _gram_device, _gram_host, gram, gram_loss  # noqa: E402
from fastvis.torch._gram_device import DeviceGramModel, DevicePlan, like, on_device, to_image  # noqa: E402
from fastvis.torch._precision import no_tf32  # noqa: E402

PADDINGS = ("zero", "periodic", "reflect")
NONLINEARITIES = ("relu", "sigmoid", "linear")
SIZES = ((1, 1), (2, 7), (9, 5), (16, 17), (3, 40))  # some smaller than the filters
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}
N = 8  # maps of the small bank

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def small_model(nonlinearity="relu", padding="zero"):
    sizes, maps = (3, 9, 5), (2, 3, 3)
    bank = FilterBank.random(sizes=sizes, n_maps=maps, channels=2, rng=0, dtype=np.float64)
    if nonlinearity == "sigmoid":  # whose gain of 255 would leave it saturated
        bank = FilterBank([w / 20 for w in bank.filters])
    return GramModel(bank, nonlinearity, padding, mean=[0.3, 0.6])


def error(value, expected):
    """Largest error relative to the largest number."""
    return np.abs(np.asarray(value) - expected).max() / np.abs(expected).max()


# The algorithm


@pytest.fixture(params=["one strip", "strips of a row"])
def strips(request, monkeypatch):
    if request.param == "strips of a row":
        monkeypatch.setattr(_gram_device, "STRIP_BYTES", 1)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.usefixtures("strips")
def test_agrees_with_the_numpy_kernel(rng, padding, nonlinearity, dtype):
    model = small_model(nonlinearity, padding)
    device_model = DeviceGramModel(model, "cpu")
    for size in SIZES:
        image = rng.random((*size, 2)).astype(dtype)
        reference_image = rng.random((13, 12, 2)).astype(dtype)
        d_gram = rng.normal(size=(N, N)).astype(dtype)
        target = model.target(reference_image)
        ours = [device_model.gram(image), device_model.gram_vjp(image, d_gram)]
        ours += [device_model.target([reference_image, image]), device_model.loss(image, target)]
        ours += device_model.loss_and_grad(image, target)
        theirs = [model.gram(image), model.gram_vjp(image, d_gram)]
        theirs += [model.target([reference_image, image]), model.loss(image, target)]
        theirs += model.loss_and_grad(image, target)
        for value, expected in zip(ours, theirs):
            assert error(value, expected) < TOLERANCE[dtype]
            assert np.asarray(value).dtype == np.asarray(expected).dtype


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.usefixtures("strips")
def test_agrees_with_the_definition(rng, padding, nonlinearity):
    x, d_gram = rng.normal(size=(6, 11, 2)), rng.normal(size=(N, N))
    filters = small_model().bank.filters
    options = nonlinearity, padding
    plan = DevicePlan([torch.tensor(w) for w in filters], x.shape[:2], *options)
    image = torch.tensor(x).permute(2, 0, 1)
    G = plan.gram(image)
    assert error(G, reference.gram(x, filters, *options)) < 1e-12
    assert G.equal(G.mT)
    grad = to_image(plan.gram_vjp(image, torch.tensor(d_gram)))
    assert error(grad, reference.gram_vjp(x, filters, *options, d_gram)) < 1e-12


def test_feature_maps_of_a_strip_are_bounded(rng, monkeypatch):
    computed = []
    features = DevicePlan._features

    def record(plan, x_hat, start, stop):
        F = features(plan, x_hat, start, stop)
        computed.append((start, F.nbytes))
        return F

    monkeypatch.setattr(DevicePlan, "_features", record)
    monkeypatch.setattr(_gram_device, "STRIP_BYTES", 4 * 20 * N * 4)  # 4 rows of 20 pixels
    model = DeviceGramModel(small_model(), "cpu")
    image = rng.random((10, 20, 2)).astype(np.float32)
    model.loss_and_grad(image, np.eye(N))
    starts, sizes = zip(*computed)
    assert max(sizes) <= _gram_device.STRIP_BYTES
    assert starts == (0, 4, 8, 4, 0)  # the last strip's serve twice


@pytest.mark.parametrize(("f", "n_rows"), [(1, 1), (1, 5), (5, 1), (3, 8), (8, 3)])
def test_fold_is_the_adjoint_of_unfold(rng, f, n_rows):
    rows = torch.tensor(rng.normal(size=(2, n_rows + f - 1)))
    windows = torch.tensor(rng.normal(size=(2, f, n_rows)))
    folded = _gram_device._fold(windows)
    assert folded.shape == rows.shape
    torch.testing.assert_close((rows.unfold(1, n_rows, 1) * windows).sum(), (rows * folded).sum())


# Precision


def tf32_settings():
    """What torch says of TF32 for matrix products, on CUDA and on the CPU; "?" if it does not."""
    matmul = torch.backends.cuda.matmul
    getters = (
        lambda: matmul.allow_tf32,
        torch.get_float32_matmul_precision,
        lambda: matmul.fp32_precision,
        lambda: torch.backends.mkldnn.matmul.fp32_precision,
    )

    def read(getter):
        try:
            return getter()
        except RuntimeError:  # "mix of the legacy and new APIs"
            return "?"

    return [read(getter) for getter in getters]


def allow_by_flag():
    torch.backends.cuda.matmul.allow_tf32 = True


def allow_by_new_setting():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


SWITCHES = {
    "default": lambda: None,
    "flag": allow_by_flag,
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "new": allow_by_new_setting,
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_tf32_is_off_inside_and_as_it_was_outside(in_fork, switch):
    if switch == "new" and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this torch has no such setting")

    def run():
        SWITCHES[switch]()
        settings = [tf32_settings()]
        with suppress(ZeroDivisionError), no_tf32, no_tf32:  # twice, as by two threads
            settings.append(tf32_settings())
            raise ZeroDivisionError
        settings.append(tf32_settings())
        with no_tf32:
            with no_tf32:
                pass
            settings.append(tf32_settings())
        return settings

    before, inside, after, still_inside = in_fork(run)
    assert before[2] == "tf32" or switch == "default"
    assert (inside[0], still_inside[0]) == (False, False)
    assert inside[2] != "tf32"
    assert after == before


def test_autocast_and_autograd_are_off(rng):
    image = torch.tensor(rng.random((2, 9, 8)), dtype=torch.float32, requires_grad=True)
    filters = [torch.tensor(w, dtype=torch.float32) for w in small_model().bank.filters]
    target = torch.eye(N)
    plan = DevicePlan(filters, (9, 8), "relu", "zero")
    results = plan.loss_and_grad(image, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (target @ target).dtype == torch.bfloat16
        reduced = DevicePlan(filters, (9, 8), "relu", "zero")
        for value, expected in zip(reduced.loss_and_grad(image, target), results):
            assert value.equal(expected)
            assert not value.requires_grad


# Dispatch


@pytest.fixture
def as_if_cuda(monkeypatch):
    """Sends CPU tensors where CUDA tensors go."""
    monkeypatch.setattr(_gram_device, "serves", lambda images: True)
    monkeypatch.setattr(_gram_host, "plan_for", None)


def test_cuda_tensors_go_to_the_device():
    assert _gram_device.serves(SimpleNamespace(is_cuda=True))
    assert not _gram_device.serves(torch.zeros(1))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_operators_on_the_device(rng, request, dtype):
    model = small_model()
    target = model.target(rng.random((13, 12, 2)))
    images = torch.tensor(rng.random((3, 2, 9, 8)).astype(dtype), requires_grad=True)

    def results():
        losses, grams = gram_loss(images, target, model), gram(images, model)
        grads = [torch.autograd.grad(value.square().sum(), images)[0] for value in (losses, grams)]
        with torch.no_grad():
            return [losses, grams, *grads, gram_loss(images, target, model)]

    expected = results()
    request.getfixturevalue("as_if_cuda")
    for value, other in zip(results(), expected):
        assert value.dtype == images.dtype
        assert error(value.detach(), other.detach().numpy()) < TOLERANCE[dtype]


@pytest.mark.usefixtures("as_if_cuda")
def test_operators_on_the_device_as_torch_checks_them(rng):
    model = small_model()
    images = torch.tensor(rng.random((2, 2, 3, 4)), requires_grad=True)
    targets = torch.tensor(np.array([model.target(rng.random((6, 5, 2))) for _ in range(2)]))
    assert gradcheck(lambda images: gram(images, model), images)
    assert gradcheck(lambda images: gram_loss(images, targets, model), images)

    def training_loss(images):
        return gram_loss(images, targets, model).mean() + gram(images, model).sum()

    torch._dynamo.reset()
    compiled = torch.compile(training_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), training_loss(images))
    with pytest.raises(ValueError, match="images must be finite"):
        gram(images / 0, model)


# NumPy in and out


def test_a_periodic_target_is_padded_by_reflection(rng):
    image = rng.random((13, 12, 2))
    model = DeviceGramModel(small_model(padding="periodic"), "cpu")
    assert error(model.target(image), small_model(padding="reflect").gram(image)) < 1e-12
    assert error(model.gram(image), model.target(image)) > 1e-3


def test_drives_synthesis(rng):
    image = rng.random((16, 16, 2)) < 0.1
    results = [
        synthesize(image.astype(float), model, max_iter=5, rng=1)
        for model in (small_model(), DeviceGramModel(small_model(), "cpu"))
    ]
    np.testing.assert_allclose(results[0].losses, results[1].losses, rtol=1e-6)
    assert results[1].loss < 0.5 * results[1].losses[0]


def test_errors_are_those_of_the_model(rng):
    model = DeviceGramModel(small_model(), "cpu")
    image = rng.random((9, 8, 2))
    with pytest.raises(ValueError, match=r"image must have 2 channel\(s\)"):
        model.gram(image[:, :, :1])
    with pytest.raises(ValueError, match="image must be finite"):
        model.loss(image * np.nan, np.eye(N))
    with pytest.raises(ValueError, match="target must not be zero"):
        model.loss_and_grad(image, np.zeros((N, N)))


def test_on_device_moves_our_model_and_no_other():
    model, other = small_model(), SimpleNamespace(channels=2)
    moved = on_device(model, torch.zeros(1))
    assert (moved.device, moved.channels, moved.bank) == (torch.device("cpu"), 2, model.bank)
    assert on_device(other, torch.zeros(1)) is other


def test_plans_go_with_their_model(rng):
    model = small_model()
    _gram_device.plan_for(model, (4, 4), "zero", torch.float64, torch.device("cpu"))
    plan = weakref.ref(_gram_device._plans[model][1])
    del model
    gc.collect()
    assert plan() is None


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5)])
def test_images_and_tensors(shape, dtype):
    tensor = torch.arange(60.0).reshape(shape).to(getattr(torch, dtype))
    image = to_image(tensor)
    assert image.shape == (4, 5, 3)
    assert image[2, 1].tolist() == [11, 31, 51]
    assert image.dtype == ("float32" if dtype in ("float16", "bfloat16") else dtype)
    again = like(image, tensor)
    assert again.equal(tensor.to(again.dtype))
    assert again.is_contiguous()


def test_tensors_that_are_no_image():
    assert to_image(torch.ones(3, 4, 5, requires_grad=True)).shape == (4, 5, 3)
    for shape in ((4, 5), (2, 3, 4, 5), (1, 1, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"\(C, H, W\) or \(1, C, H, W\); got"):
            to_image(torch.ones(shape))


# A GPU


@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.usefixtures("strips")
def test_gpu_agrees_with_the_numpy_kernel(rng, dtype):
    for padding, nonlinearity, size in itertools.product(PADDINGS, NONLINEARITIES, SIZES):
        model = small_model(nonlinearity, padding)
        target = model.target(rng.random((13, 12, 2)))
        images = torch.tensor(rng.random((2, 2, *size)).astype(dtype), requires_grad=True)
        on_gpu = images.detach().cuda().requires_grad_()
        grams = [gram(x, model) for x in (on_gpu, images)]
        losses = [gram_loss(x, target, model) for x in (on_gpu, images)]
        for ours, theirs in (grams, losses):
            assert (ours.device, ours.dtype) == (on_gpu.device, on_gpu.dtype)
            assert error(ours.detach().cpu(), theirs.detach().numpy()) < TOLERANCE[dtype]
            grads = [
                torch.autograd.grad(value.square().sum(), x)[0].cpu().numpy()
                for value, x in ((ours, on_gpu), (theirs, images))
            ]
            assert error(*grads) < TOLERANCE[dtype]


@needs_gpu
def test_gpu_does_not_reduce_float32(rng):
    model = GramModel(FilterBank.random(n_maps=16, rng=0), "linear")
    image = torch.tensor(rng.random((1, 3, 96, 80)), dtype=torch.float32)
    target = model.target(rng.random((64, 64, 3)))

    def results(image):
        image = image.detach().requires_grad_()
        loss = gram_loss(image, target, model)
        return [loss.detach(), *torch.autograd.grad(loss.sum(), image)]

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            on_gpu = results(image.cuda())
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    for value, expected in zip(on_gpu, results(image)):  # TF32: 1e-3
        assert error(value.cpu(), expected.numpy()) < 1e-5


@needs_gpu
def test_gpu_and_cpu_do_not_mix(rng):
    model = small_model()
    images = torch.tensor(rng.random((1, 2, 9, 8))).cuda()
    with pytest.raises(ValueError, match="target must be on the device of the images, cuda"):
        gram_loss(images, torch.eye(N), model)


@needs_gpu
def test_gpu_synthesis(rng):
    reference_image = torch.tensor(rng.random((2, 16, 16))).cuda()
    result = synthesize(reference_image, small_model(), max_iter=5, rng=1)
    assert result.image.device == reference_image.device
    assert result.image.shape == reference_image.shape
    assert result.loss < 0.5 * result.losses[0]
