"""The Gram model on the device of its images (cuFFT, cuBLAS); imports torch.

The algorithm is that of ``_kernels/gram/strips.py``, a strip of image rows at a time::

    image -> pad -> transform along the rows -> x_hat            (K, C, rows)
    for each strip of R rows:
        y_hat = correlate(x_hat, w_hat)      batched GEMM        (K, N, R)
        F     = phi(inverse transform)                           (N, R W)
        G    += F F' / M                     GEMM                (N, N)
    and for the gradient, with D = (dG + dG') / M:
        F     = (D F) phi'(F)                GEMM
        y_hat = transform of F
        dx_hat += adjoint of correlate
    dx = adjoint of pad (inverse transform of dx_hat)

Here pixels run fastest, as cuFFT wants them. Feature maps are computed again for the gradient, but
for the last strip's. Nothing in it is particular to CUDA: the tests run it on the CPU.
"""

import weakref

import numpy as np
import torch

from .._kernels.gram.padding import Padding
from ..textures.model import GramModel
from ._precision import plain_arithmetic

STRIP_BYTES = 128 << 20  # feature maps of one strip; a call takes about seven times as much

ACTIVATION = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, "linear": lambda u: u}
# the derivative as a function of the activation's own value
SLOPE = {"relu": lambda F: F > 0, "sigmoid": lambda F: F * (1 - F), "linear": lambda F: 1}


class DevicePlan:
    """Filters on a device, ready for images (C, H, W) of one shape. Immutable.

    Parameters
    ----------
    filters : sequence of tensors, (n_s, f_s, f_s, C)
        All on one device and of one dtype, float32 or float64: those of everything here. float32
        is never reduced to TF32 or to the types of autocast.
    shape : (H, W)
    nonlinearity : {"linear", "relu", "sigmoid"}
    padding : {"zero", "periodic", "reflect"}
    """

    def __init__(self, filters, shape, nonlinearity, padding):
        self.shape = shape
        self.device, self.dtype = filters[0].device, filters[0].dtype
        self.n_maps = sum(len(w) for w in filters)
        self.nonlinearity = nonlinearity

        self.pad = max(w.shape[1] for w in filters) // 2
        index = Padding(shape, self.pad, padding)
        self.length = len(index.columns)
        self.pad_rows = self._selection(index.rows, shape[0])
        self.pad_columns = self._selection(index.columns, shape[1])
        with plain_arithmetic(self.device):
            self.groups = list(self._transform_filters(filters))

        bytes_per_row = shape[1] * self.n_maps * self.dtype.itemsize
        n_strips = -(-shape[0] // max(1, STRIP_BYTES // bytes_per_row))
        n_rows = -(-shape[0] // n_strips)
        self.strips = [(y, min(y + n_rows, shape[0])) for y in range(0, shape[0], n_rows)]

    def _selection(self, index, n):
        """Padding as a matrix: row i has its one at index[i], or none. Its transpose: the adjoint.

        (Adding up by `Tensor.index_add` would be in no fixed order on CUDA.)
        """
        selected = index[:, None] == np.arange(n)
        return torch.as_tensor(selected, dtype=self.dtype, device=self.device)

    def _transform_filters(self, filters):
        """Yields (first map, number of maps, f, conjugate transform (K, n, C f)) of each group."""
        first_map, frequencies = 0, np.arange(self.length // 2 + 1)
        for w in filters:
            n, f = w.shape[:2]
            turns = np.outer(frequencies, np.arange(f) - f // 2) / self.length
            dft = torch.as_tensor(np.exp(2j * np.pi * turns), device=self.device)
            dft = dft.to(self.dtype.to_complex())
            w_hat = torch.einsum("kb,nabc->knca", dft, w.to(dft.dtype)).flatten(2)
            yield first_map, n, f, w_hat
            first_map += n

    # The model; images, targets and results are tensors on the plan's device

    def gram(self, image):
        """G (N, N) of an image (C, H, W), eq (1)."""
        with plain_arithmetic(self.device):
            return self._forward(self._transform_image(image))[0]

    def gram_vjp(self, image, d_gram):
        """Gradient by the image of sum_ij d_gram_ij G_ij(image)."""
        with plain_arithmetic(self.device):
            return self._backward(d_gram, self._transform_image(image))

    def loss(self, image, target):
        """E(image) = |target - G|^2 / |target|^2, eq (5), a float64 tensor without dimensions."""
        with plain_arithmetic(self.device):
            return relative_error(self._forward(self._transform_image(image))[0], target)[0]

    def loss_and_grad(self, image, target):
        """E(image), eq (5), and its gradient by the image."""
        with plain_arithmetic(self.device):
            x_hat = self._transform_image(image)
            gram, last = self._forward(x_hat)
            loss, d_gram = relative_error(gram, target)
            return loss, self._backward(d_gram, x_hat, last)

    # Over all strips

    def _transform_image(self, image):
        """The transform (K, C, rows) of the padded image."""
        padded = self.pad_rows @ image @ self.pad_columns.mT
        return torch.fft.rfft(padded).permute(2, 0, 1).contiguous()

    def _forward(self, x_hat):
        """G, and the feature maps of the last strip."""
        gram = self.pad_rows.new_zeros(self.n_maps, self.n_maps)
        for strip in self.strips:
            F = self._features(x_hat, *strip)
            gram.addmm_(F, F.mT, alpha=1 / np.prod(self.shape))
        return gram.triu() + gram.triu(1).mT, F

    def _backward(self, d_gram, x_hat, last=None):
        """The image gradient; overwrites ``last``, the feature maps of the last strip."""
        D = (d_gram + d_gram.mT) / np.prod(self.shape)
        dx_hat = torch.zeros_like(x_hat)
        for strip in reversed(self.strips):
            F = self._features(x_hat, *strip) if last is None else last
            last = None
            self._features_adjoint(D, F, strip[0], dx_hat)
        d_padded = torch.fft.irfft(dx_hat, self.length, dim=0).permute(1, 2, 0)
        return self.pad_rows.mT @ d_padded @ self.pad_columns

    # Over one strip

    def _features(self, x_hat, start, stop):
        """F (N, R W) of the rows [start, stop)."""
        n_rows = stop - start
        y_hat = x_hat.new_empty(len(x_hat), self.n_maps, n_rows)
        for first_map, n, f, w_hat in self.groups:
            rows = self._window(x_hat, f, start, n_rows)
            windows = rows.unfold(2, n_rows, 1).flatten(1, 2)  # (K, C f, R)
            y_hat[:, first_map : first_map + n] = w_hat @ windows
        u = torch.fft.irfft(y_hat, self.length, dim=0)[: self.shape[1]]
        return ACTIVATION[self.nonlinearity](u.permute(1, 2, 0).flatten(1))

    def _features_adjoint(self, D, F, start, dx_hat):
        """Adds to dx_hat what the strip's feature maps F contribute."""
        dF = (D @ F).mul_(SLOPE[self.nonlinearity](F)).unflatten(1, (-1, self.shape[1]))
        dy_hat = torch.fft.rfft(dF, self.length).permute(2, 0, 1).contiguous()
        for first_map, n, f, w_hat in self.groups:
            windows = w_hat.mH @ dy_hat[:, first_map : first_map + n]
            rows = self._window(dx_hat, f, start, dF.shape[1])
            rows += _fold(windows.unflatten(1, (-1, f)))

    def _window(self, x_hat, f, start, n_rows):
        """The rows of x_hat that f x f filters see from ``n_rows`` rows of the image."""
        return x_hat.narrow(2, start + self.pad - f // 2, n_rows + f - 1)


def _fold(windows):
    """The adjoint of ``unfold``: sum_a windows[..., a, i - a], (..., f, R) -> (..., R + f - 1).

    With f zeros after each row, rows read in a length shorter by one stand shifted by one each.
    """
    f, n_rows = windows.shape[-2:]
    length = n_rows + f - 1
    skewed = torch.nn.functional.pad(windows, (0, f)).flatten(-2)[..., : f * length]
    return skewed.unflatten(-1, (f, length)).sum(-2)


def relative_error(gram, target):
    """E = |target - gram|^2 / |target|^2, eq (5), and its gradient by the Gram matrix."""
    difference = gram - target
    norm = target.double().square().sum()
    return difference.double().square().sum() / norm, difference * (2 / norm)


# Which plan serves an image. Plans live as long as their model; the last of each is kept.

_plans = weakref.WeakKeyDictionary()  # model -> (key, DevicePlan)


def serves(images):
    """Whether a tensor's Gram matrices are computed here, not by the NumPy kernel."""
    return images.is_cuda


def plan_for(model, shape, padding, dtype, device):
    """The `DevicePlan` of a GramModel for images of ``shape`` (H, W)."""
    key = (tuple(shape), padding, dtype, device)
    plan = _plans.get(model)
    if plan is None or plan[0] != key:
        filters = [
            torch.as_tensor(w, dtype=dtype, device=device)
            for w in model._scaled_filters(np.float64)
        ]
        plan = key, DevicePlan(filters, key[0], model.nonlinearity, padding)
        _plans[model] = plan
    return plan[1]


# NumPy in and out, for optimizers that live on the CPU


class DeviceGramModel(GramModel):
    """A `GramModel` that works on a device, with NumPy arrays in and out.

    An image is small next to its feature maps: it is moved to the device and its gradient back, so
    that L-BFGS-B stays in SciPy. Arguments, results and errors are those of `GramModel`; values
    agree with its to rounding.

    Parameters
    ----------
    model : GramModel
    device : str or torch.device

    Examples
    --------
    >>> import numpy as np
    >>> from fastvis.textures import FilterBank, GramModel
    >>> model = GramModel(FilterBank.random(sizes=(3, 5), n_maps=4, rng=0))
    >>> twin = DeviceGramModel(model, "cpu")  # or "cuda"
    >>> image = np.random.default_rng(0).random((16, 16, 3))
    >>> loss, grad = twin.loss_and_grad(image, model.target(1 - image))
    >>> abs(loss - model.loss(image, model.target(1 - image))) < 1e-12
    True
    >>> grad.shape
    (16, 16, 3)
    """

    def __init__(self, model, device):
        super().__init__(model.bank, model.nonlinearity, model.padding, model.mean)
        self.device = torch.device(device)

    def _plan_for(self, image, padding):
        dtype = torch.from_numpy(image).dtype
        return _ArrayPlan(plan_for(self, image.shape[:2], padding, dtype, self.device))


class _ArrayPlan:
    """A `DevicePlan` that takes and returns arrays as `StripPlan` does."""

    def __init__(self, plan):
        self.plan = plan

    def gram(self, image):
        return self.plan.gram(self._image(image)).cpu().numpy()

    def gram_vjp(self, image, d_gram):
        return to_image(self.plan.gram_vjp(self._image(image), self._tensor(d_gram)))

    def loss(self, image, target):
        return float(self.plan.loss(self._image(image), self._tensor(target)))

    def loss_and_grad(self, image, target):
        loss, grad = self.plan.loss_and_grad(self._image(image), self._tensor(target))
        return float(loss), to_image(grad)

    def _image(self, image):
        return self._tensor(image).permute(2, 0, 1)

    def _tensor(self, array):
        return torch.as_tensor(array, device=self.plan.device)


def on_device(model, tensor):
    """A `GramModel` moved to the device of a tensor; other models, which have their own, as is."""
    return DeviceGramModel(model, tensor.device) if isinstance(model, GramModel) else model


def to_image(tensor):
    """A tensor (C, H, W) or (1, C, H, W), wherever it is, as a NumPy array (H, W, C).

    Raises
    ------
    ValueError
        For other shapes.

    Examples
    --------
    >>> to_image(torch.zeros(1, 3, 4, 5)).shape
    (4, 5, 3)
    """
    if tensor.ndim not in (3, 4) or (tensor.ndim == 4 and len(tensor) != 1):
        raise ValueError(
            f"an image tensor must have shape (C, H, W) or (1, C, H, W); got {tuple(tensor.shape)}."
            " Pass one image at a time."
        )
    if tensor.dtype in (torch.float16, torch.bfloat16):  # NumPy knows only one of them
        tensor = tensor.float()
    array = tensor.reshape(tensor.shape[-3:]).permute(1, 2, 0).numpy(force=True)
    return np.ascontiguousarray(array)


def like(image, tensor):
    """An array (H, W, C) as a tensor with the device and axes of ``tensor``; keeps its dtype.

    Examples
    --------
    >>> like(np.zeros((4, 5, 3)), torch.zeros(1, 3, 8, 8)).shape
    torch.Size([1, 3, 4, 5])
    """
    channels_first = np.ascontiguousarray(np.moveaxis(image, 2, 0))
    return torch.as_tensor(channels_first, device=tensor.device)[(None,) * (tensor.ndim - 3)]
