"""The Gram operators against the NumPy model, finite differences and autograd through conv2d."""

import importlib
import sys
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fastvis.torch needs the torch extra")

from torch.autograd import gradcheck  # noqa: E402
from torch.library import opcheck  # noqa: E402

from fastvis._kernels.gram import StripPlan  # noqa: E402
from fastvis.textures import FilterBank, GramModel  # noqa: E402
from fastvis.torch import gram, gram_loss  # noqa: E402

PADDINGS = ("zero", "periodic", "reflect")
NONLINEARITIES = ("relu", "sigmoid", "linear")
N = 6  # maps of the small model
DTYPES = (torch.float32, torch.float64)


def small_model(nonlinearity="relu", padding="zero"):
    bank = FilterBank.random(sizes=(3, 5), n_maps=N // 2, channels=2, rng=0, dtype=np.float64)
    if nonlinearity == "sigmoid":  # whose gain of 255 would leave it saturated
        bank = FilterBank([w / 20 for w in bank.filters])
    return GramModel(bank, nonlinearity, padding, mean=[0.3, 0.6])


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def target(model, rng):
    return model.target(rng.random((11, 12, 2)))


@pytest.fixture
def images(rng):
    return torch.tensor(rng.random((3, 2, 9, 8)), requires_grad=True)


def handle_of(model):
    return importlib.import_module("fastvis.torch.gram")._handle(model)


def as_arrays(images):
    return list(images.detach().numpy().transpose(0, 2, 3, 1))


def gradient(function, images):
    return torch.autograd.grad(function(images), images)[0]


# Values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_values_are_those_of_the_model_to_the_byte(rng, padding, dtype):
    model = small_model(padding=padding)
    images = torch.tensor(rng.random((3, 2, 9, 8)), dtype=dtype)
    target = model.target(rng.random((11, 12, 2)))
    losses = [model.loss(image, target) for image in as_arrays(images)]
    grams = [model.gram(image) for image in as_arrays(images)]
    assert gram(images, model).equal(torch.tensor(np.array(grams)))
    assert gram_loss(images, target, model).equal(torch.tensor(losses, dtype=dtype))
    images.requires_grad_()
    assert gram_loss(images, target, model).equal(torch.tensor(losses, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_device_are_kept(model, target, images, dtype):
    images = images.detach().to(dtype).requires_grad_()
    for result in (gram(images, model), gram_loss(images, target, model)):
        assert (result.dtype, result.device) == (dtype, images.device)
        assert torch.autograd.grad(result.sum(), images)[0].dtype == dtype


def test_gradients_agree_with_autograd_through_conv2d(model, target, images):
    def by_conv2d(images):
        centered = images - images.new_tensor(model.mean)[:, None, None]
        weights = [torch.tensor(w).permute(0, 3, 1, 2) for w in model.bank.filters]
        maps = [torch.conv2d(centered, w, padding="same") for w in weights]
        F = torch.cat(maps, dim=1).relu().flatten(2)
        return F @ F.mT / F.shape[2]

    def loss_by_conv2d(images):
        A = torch.tensor(target)
        return (A - by_conv2d(images)).square().sum((1, 2)) / A.square().sum()

    torch.testing.assert_close(gram(images, model), by_conv2d(images))
    torch.testing.assert_close(gram_loss(images, target, model), loss_by_conv2d(images))
    weights = torch.arange(1.0, 4, dtype=images.dtype)  # another one for each image
    for ours, theirs in (
        (gram(images, model).sin().sum((1, 2)), by_conv2d(images).sin().sum((1, 2))),
        (gram_loss(images, target, model), loss_by_conv2d(images)),
    ):
        grads = [torch.autograd.grad(result @ weights, images)[0] for result in (ours, theirs)]
        torch.testing.assert_close(*grads)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("padding", PADDINGS)
def test_gradcheck(rng, padding, nonlinearity):
    model = small_model(nonlinearity, padding)
    images = torch.tensor(rng.random((2, 2, 3, 4)), requires_grad=True)
    targets = torch.tensor(np.array([model.target(rng.random((6, 5, 2))) for _ in range(2)]))
    assert gradcheck(lambda images: gram(images, model), images)
    assert gradcheck(lambda images: gram_loss(images, targets, model), images)


def test_two_models_at_once(images):
    models = small_model(), small_model("linear", "periodic")
    d_gram = np.eye(N) + 1
    results = [gram(images, model) for model in models]
    for model, result in zip(models, results):
        (grad,) = torch.autograd.grad(result, images, torch.tensor(d_gram).expand(3, -1, -1))
        for i, image in enumerate(as_arrays(images)):
            np.testing.assert_array_equal(result[i].detach(), model.gram(image))
            np.testing.assert_array_equal(as_arrays(grad)[i], model.gram_vjp(image, d_gram))


# Targets


def test_a_target_for_each_image(model, target, images):
    targets = np.stack([target, 2 * target, target.T + 1])
    losses = gram_loss(images, targets, model)
    assert losses.requires_grad
    for i in range(3):
        assert losses[i] == gram_loss(images[i : i + 1], targets[i], model)
    assert gram_loss(images.detach(), torch.tensor(targets), model).equal(losses)


def test_the_dtype_of_a_target_does_not_matter(model, target, images):
    images, target = images.float(), target.astype(np.float32)
    expected = gram_loss(images, target, model)
    assert gram_loss(images, target.astype(float), model).equal(expected)
    assert gram_loss(images, torch.tensor(target).double(), model).equal(expected)


def test_the_loss_is_zero_at_its_target(model, images):
    with torch.no_grad():
        assert gram_loss(images, gram(images, model), model).tolist() == [0, 0, 0]


# Strides


def layouts(images):
    b, c, h, w = images.shape
    wide = torch.zeros(b, c, h, 2 * w, dtype=images.dtype)
    wide[..., ::2] = images
    return {
        "channels last": images.contiguous(memory_format=torch.channels_last),
        "every other column": wide[..., ::2],
        "transposed": images.mT.contiguous().mT,
        "flipped": images.flip(-1).contiguous().flip(-1),
        "batch last": images.movedim(0, -1).contiguous().movedim(-1, 0),
    }


def test_any_strides(model, target, images):
    expected = gradient(lambda x: gram_loss(x, target, model).sum(), images)
    d_gram = gradient(lambda x: gram(x, model).square().sum(), images)
    for name, other in layouts(images.detach()).items():
        other.requires_grad_()
        assert gram(other, model).equal(gram(images, model)), name
        assert gradient(lambda x: gram_loss(x, target, model).sum(), other).equal(expected), name
        assert gradient(lambda x: gram(x, model).square().sum(), other).equal(d_gram), name


def test_one_image_expanded_to_a_batch(model, target, images):
    one = images[:1].detach().requires_grad_()
    loss = gram_loss(one.expand(4, -1, -1, -1), target, model)
    assert loss.equal(loss[:1].expand(4))
    expected = gradient(lambda x: gram_loss(x, target, model).sum(), one)
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), one)[0], 4 * expected)


# What is computed


@pytest.fixture
def calls(monkeypatch):
    """The methods of the kernel in the order in which they are called."""
    names = []

    def recorded(name, method):
        def record(*args):
            names.append(name)
            return method(*args)

        return record

    for name in ("gram", "gram_vjp", "loss", "loss_and_grad"):
        monkeypatch.setattr(StripPlan, name, recorded(name, getattr(StripPlan, name)))
    return names


def test_loss_and_gradient_come_from_one_pass(model, target, images, calls):
    loss = gram_loss(images[:1], target, model)
    loss.sum().backward()
    assert calls == ["loss_and_grad"]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_no_gradient_is_computed_that_is_not_needed(model, target, images, calls, mode):
    images = images[:1] if mode is not torch.enable_grad else images[:1].detach()
    with mode():
        loss = gram_loss(images, target, model)
        assert not loss.requires_grad
    assert "loss_and_grad" not in calls
    assert "gram_vjp" not in calls


def test_a_gradient_that_overflowed_is_passed_on(model, target, images):
    # a scaler of mixed precision looks for it, and skips the step
    for result in (gram(images, model), gram_loss(images, target, model)):
        (grad,) = torch.autograd.grad(result.sum() * float("inf"), images)
        assert not grad.isfinite().any()


def test_autocast_does_not_reduce_the_precision(model, target, images):
    expected = gram_loss(images.float(), target, model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert gram_loss(images.float(), target, model).equal(expected)


# The operators, as torch checks them


def test_opcheck(model, target, images):
    handle = handle_of(model)
    ops, x, A = torch.ops.fastvis, images, torch.tensor(target)[None]
    free = images.detach()
    opcheck(ops.gram, (x, handle, N))
    opcheck(ops.gram, (layouts(free)["channels last"].requires_grad_(), handle, N))
    opcheck(ops.gram_vjp, (free, torch.rand(3, N, N, dtype=x.dtype), handle))
    opcheck(ops.gram_loss, (free, A, handle))
    opcheck(ops.gram_loss_and_grad, (x, A, handle))
    opcheck(ops.gram_loss_and_grad, (x, A.expand(3, -1, -1), handle))


@pytest.mark.parametrize("as_tensor", [torch.tensor, np.asarray], ids=["tensor", "array"])
def test_compile(model, target, images, as_tensor):
    torch._dynamo.reset()
    target = as_tensor(target)

    def training_loss(images, model):
        x = images.sigmoid()
        return gram_loss(x, target, model).mean() + gram(x, model).square().mean()

    compiled = torch.compile(training_loss, fullgraph=True, backend="aot_eager")
    other = GramModel(model.bank, "linear", "reflect")
    for m in (model, other, model):  # the second model must not get the first one's graph
        torch.testing.assert_close(compiled(images, m), training_loss(images, m))
        torch.testing.assert_close(
            gradient(lambda x, m=m: compiled(x, m), images),
            gradient(lambda x, m=m: training_loss(x, m), images),
        )
    more = torch.cat([images, images + 0.1]).detach()  # another batch size
    torch.testing.assert_close(compiled(more, model), training_loss(more, model))
    with torch.no_grad():
        torch.testing.assert_close(compiled(images, model), training_loss(images, model))


# Life and threads


def test_a_model_lives_until_backward_and_no_longer(images):
    model = small_model()
    alive, handle = weakref.ref(model), handle_of(model)
    result = gram(images, model)
    del model
    result.sum().backward()
    assert images.grad.abs().sum() > 0
    del result
    assert alive() is None
    with pytest.raises(RuntimeError, match="GramModel .* has been deleted"):  # compiled code could
        torch.ops.fastvis.gram(images, handle, N)


def test_two_threads(together, model, target, images):
    other = images.detach().float().requires_grad_()  # the model's plan changes back and forth

    def work(images):
        return [gradient(lambda x: gram_loss(x, target, model).sum(), images) for _ in range(20)]

    expected = [gradient(lambda x: gram_loss(x, target, model).sum(), x) for x in (images, other)]
    results = together(lambda: work(images), lambda: work(other))
    for grads, grad in zip(results, expected):
        assert all(g.equal(grad) for g in grads)


class Statistics(torch.utils.data.Dataset):
    """A data set that describes images by their Gram matrices."""

    def __init__(self, images, model, target):
        self.images, self.model, self.target = images, model, target

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = self.images[i : i + 1].clone().requires_grad_()
        loss = gram_loss(image, self.target, self.model)
        loss.backward()
        return gram(image, self.model).detach()[0], loss.detach()[0], image.grad[0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_data_loader_workers(model, target, images):
    if "fork" not in torch.multiprocessing.get_all_start_methods():
        pytest.skip("this platform does not fork")
    data = Statistics(images.detach(), model, target)
    here = next(iter(torch.utils.data.DataLoader(data, batch_size=3)))
    loader = torch.utils.data.DataLoader(
        data, batch_size=3, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    for ours, theirs in zip(here, next(iter(loader))):
        assert ours.equal(theirs)


def test_as_a_loss_in_a_training_loop(rng):
    # stripes, to be made from noise by a convolutional network of somebody else's
    torch.manual_seed(0)
    stripes = np.sin(np.arange(24) * 2 * np.pi / 6)[:, None, None] * np.ones((24, 24, 1)) / 2 + 0.5
    bank = FilterBank.random(sizes=(3, 7), n_maps=8, channels=1, rng=0)
    model = GramModel(bank, mean=[0.5])
    target = model.target(stripes.astype(np.float32))
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 5, padding=2),
        torch.nn.Tanh(),
        torch.nn.Conv2d(8, 1, 5, padding=2),
        torch.nn.Sigmoid(),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    noise = torch.randn(2, 1, 24, 24)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = gram_loss(network(noise), target, model).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


# Errors


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x.detach().numpy(), TypeError, "images must be a torch.Tensor.*got ndarray"),
        (lambda x: (255 * x).byte(), TypeError, "float32 or float64; got torch.uint8.*255"),
        (lambda x: x.half(), TypeError, "got torch.float16"),
        (lambda x: x[0], ValueError, r"4 dimensions \(B, C, H, W\); got shape \(2, 9, 8\)"),
        (lambda x: x[:0], ValueError, r"images must not be empty; got shape \(0, 2, 9, 8\)"),
        (lambda x: x[..., :0], ValueError, "images must not be empty"),
        (lambda x: x[:, :1], ValueError, r"2 channel\(s\) as axis 1; got shape \(3, 1, 9, 8\)"),
        (lambda x: x.permute(0, 2, 3, 1), ValueError, r"channel\(s\) as axis 1"),
        (lambda x: x / 0, ValueError, r"images must be finite; got 432 value\(s\)"),
        (lambda x: x.to("meta"), ValueError, "on the CPU or a CUDA device; got meta"),
    ],
)
def test_images_that_are_refused(model, target, images, change, error, message):
    with pytest.raises(error, match=message):
        gram(change(images), model)
    for x in (images, images.detach()):
        with pytest.raises(error, match=message):
            gram_loss(change(x), target, model)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda A: A.tolist(), TypeError, "target must be a tensor or array; got list"),
        (lambda A: (100 * A).astype(int), TypeError, "target must be of a float dtype.*int64"),
        (lambda A: A + 0j, TypeError, "target must be of a float dtype.*complex128"),
        (lambda A: A[:-1], ValueError, r"\(B, n, n\) with B = 3.*n = 6.*got \(5, 6\)"),
        (lambda A: A[None], ValueError, r"got \(1, 6, 6\)"),
        (lambda A: np.stack([A] * 4), ValueError, r"got \(4, 6, 6\)"),
        (lambda A: A * np.nan, ValueError, r"target must be finite; got 36 value\(s\)"),
        (lambda A: 0 * A, ValueError, "target must not be zero"),
        (lambda A: np.stack([A, 0 * A, A]), ValueError, "target must not be zero"),
        (lambda A: torch.tensor(A, requires_grad=True), ValueError, r"Pass target.detach\(\)"),
        (lambda A: torch.tensor(A).to("meta"), ValueError, "device of the images, cpu; got meta"),
    ],
)
def test_targets_that_are_refused(model, target, images, change, error, message):
    for x in (images, images.detach()):
        with pytest.raises(error, match=message):
            gram_loss(x, change(target), model)


def test_models_that_are_refused(model, target, images):
    for wrong in (model.bank, None, torch.nn.Conv2d(2, 6, 3), GramModel):
        message = f"model must be a fastvis.textures.GramModel; got {type(wrong).__name__}"
        with pytest.raises(TypeError, match=message):
            gram(images, wrong)
        with pytest.raises(TypeError, match=message):
            gram_loss(images, target, wrong)


def test_second_and_forward_derivatives_are_refused(model, target, images):
    for function in (lambda x: gram(x, model).sum(), lambda x: gram_loss(x, target, model).sum()):
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(function(images), images, create_graph=True)
        with pytest.raises(RuntimeError, match="no forward-mode derivative"):
            torch.func.jvp(function, (images.detach(),), (torch.ones_like(images),))


def test_without_torch_the_error_names_the_extra(monkeypatch):
    module = importlib.import_module("fastvis.torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"pip install fastvis\[torch\]"):
        importlib.reload(module)
