"""The Gram model as differentiable operators on images (B, C, H, W); imports torch.

Four operators of the torch library do the work. Each runs `_gram_host` (the NumPy kernel) for CPU
tensors and `_gram_device` for CUDA tensors, an image at a time::

    gram(images)                       -> (B, n, n)            backward: gram_vjp
    gram_vjp(images, d_gram)           -> (B, C, H, W)
    gram_loss(images, target)          -> (B,)
    gram_loss_and_grad(images, target) -> (B,), (B, C, H, W)   backward: multiplies
"""

import itertools
import weakref

import numpy as np
import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from ..textures.model import GramModel
from . import _gram_device, _gram_host

# Operators take tensors and numbers. The model goes in as a number, its handle, and not as tensors
# of filters, because it keeps them transformed for the images' size. Both dictionaries are weak: a
# model goes when its user lets it go. Handles are not used twice, as addresses would be.
_models = weakref.WeakValueDictionary()  # handle -> model
_handles = weakref.WeakKeyDictionary()  # model -> handle
_new_handle = itertools.count()


def gram(images, model):
    """Gram matrices of the feature maps, ICLR 2017 eq (1); differentiable by the images.

    Parameters
    ----------
    images : Tensor, (B, C, H, W)
        float32 or float64, values usually in [0, 1]; on the CPU or a CUDA device. Any strides.
    model : fastvis.textures.GramModel
        A constant: it has no gradient.

    Returns
    -------
    Tensor, (B, n, n)
        Symmetric, of the images' dtype and device; n is the number of maps, ``len(model.bank)``.

    Raises
    ------
    TypeError
        Images that are no tensor of float32 or float64, a model that is no GramModel.
    ValueError
        A wrong shape, no images, NaN, another device.
    RuntimeError
        When a second derivative (``create_graph=True``) or a forward-mode one is asked for.

    Notes
    -----
    On CPU, ``GramModel.gram`` of each image, to the byte; see there for threads. float32 is never
    reduced: autocast does not apply, and TF32 is switched off while the operator runs on CUDA
    (in the whole process). CUDA tensors stay on their device; memory there is bounded. Within
    `torch.compile` the operator is a single node of the graph. The transforms of `torch.func` and
    forward-mode differentiation are not supported.

    References
    ----------
    Ustyuzhaninov, Brendel, Gatys, Bethge, ICLR 2017, section 2, eq (1).

    Examples
    --------
    >>> import torch
    >>> from fastvis.textures import FilterBank, GramModel
    >>> from fastvis.torch import gram
    >>> model = GramModel(FilterBank.random(sizes=(3, 5), n_maps=4, rng=0))
    >>> images = torch.rand(2, 3, 16, 16, requires_grad=True)
    >>> statistics = gram(images, model)
    >>> statistics.shape
    torch.Size([2, 8, 8])
    >>> statistics.square().sum().backward()
    >>> images.grad.shape
    torch.Size([2, 3, 16, 16])
    """
    _check_images(images, model)
    return _gram(images, _handle(model), len(model.bank))


def gram_loss(images, target, model):
    """Relative squared error of the Gram matrices, ICLR 2017 eq (5), for each image.

    ``sum((target - G)**2) / sum(target**2)``, differentiable by the images. Loss and gradient are
    computed in one pass, the gradient only if it will be needed.

    Parameters
    ----------
    images : Tensor, (B, C, H, W)
        float32 or float64, values usually in [0, 1]; on the CPU or a CUDA device. Any strides.
    target : Tensor or ndarray, (n, n) or (B, n, n)
        Gram matrices, from ``model.target(reference)`` or `gram`: one for all images, or one for
        each. Not zero. Must not require a gradient. A tensor must be on the images' device.
    model : fastvis.textures.GramModel
        A constant: it has no gradient.

    Returns
    -------
    Tensor, (B,)
        Of the images' dtype and device, summed in float64. Take ``.mean()`` or ``.sum()``.

    Raises
    ------
    TypeError
        Images that are no tensor of float32 or float64, a model that is no GramModel.
    ValueError
        A wrong shape, no images, NaN, another device; a target that requires a gradient or is zero.
    RuntimeError
        When a second derivative (``create_graph=True``) or a forward-mode one is asked for.

    Notes
    -----
    See `gram`.

    References
    ----------
    Ustyuzhaninov, Brendel, Gatys, Bethge, ICLR 2017, section 3, eq (5).

    Examples
    --------
    A texture loss in a training loop:

    >>> import numpy as np
    >>> import torch
    >>> from fastvis.textures import FilterBank, GramModel
    >>> from fastvis.torch import gram_loss
    >>> model = GramModel(FilterBank.random(sizes=(3, 5), n_maps=4, rng=0))
    >>> target = model.target(np.random.default_rng(0).random((32, 32, 3)))
    >>> generator = torch.nn.Conv2d(8, 3, 5, padding=2)
    >>> loss = gram_loss(generator(torch.rand(2, 8, 16, 16)).sigmoid(), target, model)
    >>> loss.shape
    torch.Size([2])
    >>> loss.mean().backward()
    """
    _check_images(images, model)
    target = _check_target(target, images, len(model.bank))
    if images.requires_grad and torch.is_grad_enabled():
        return _gram_loss_and_grad(images, target, _handle(model))[0]
    return _gram_loss(images, target, _handle(model))


# The operators


@torch.library.custom_op("fastvis::gram", mutates_args=())
def _gram(images: Tensor, model: int, n_maps: int) -> Tensor:
    _check_values(images)
    plan, images = _plan_and_images(images, model)
    return torch.stack([plan.gram(image) for image in images])


@_gram.register_fake
def _(images, model, n_maps):
    return images.new_empty(len(images), n_maps, n_maps)


@torch.library.custom_op("fastvis::gram_vjp", mutates_args=())
def _gram_vjp(images: Tensor, d_gram: Tensor, model: int) -> Tensor:
    plan, images = _plan_and_images(images, model)
    return torch.stack([plan.gram_vjp(*pair) for pair in zip(images, d_gram)])


@_gram_vjp.register_fake
def _(images, d_gram, model):
    return images.new_empty(images.shape)


@torch.library.custom_op("fastvis::gram_loss", mutates_args=())
def _gram_loss(images: Tensor, target: Tensor, model: int) -> Tensor:
    _check_values(images, target)
    plan, images = _plan_and_images(images, model)
    losses = [plan.loss(*pair) for pair in zip(images, _for_each(images, target))]
    return torch.stack(losses).to(images.dtype)


@_gram_loss.register_fake
def _(images, target, model):
    return images.new_empty(len(images))


@torch.library.custom_op("fastvis::gram_loss_and_grad", mutates_args=())
def _gram_loss_and_grad(images: Tensor, target: Tensor, model: int) -> tuple[Tensor, Tensor]:
    _check_values(images, target)
    plan, images = _plan_and_images(images, model)
    results = [plan.loss_and_grad(*pair) for pair in zip(images, _for_each(images, target))]
    losses, grads = zip(*results)
    return torch.stack(losses).to(images.dtype), torch.stack(grads)


@_gram_loss_and_grad.register_fake
def _(images, target, model):
    return images.new_empty(len(images)), images.new_empty(images.shape)


# Their derivatives


def _keep_images(ctx, inputs, output):
    images, ctx.handle, _ = inputs
    ctx.model = _models.get(ctx.handle)  # lives until backward
    ctx.save_for_backward(images)


def _gram_backward(ctx, d_gram):
    _refuse_second_derivative()
    (images,) = ctx.saved_tensors
    return _gram_vjp(images, d_gram, ctx.handle), None, None


def _keep_grad(ctx, inputs, output):
    _, grad = output
    ctx.save_for_backward(grad)
    ctx.mark_non_differentiable(grad)
    ctx.set_materialize_grads(False)


def _gram_loss_backward(ctx, d_loss, _):
    _refuse_second_derivative()
    (grad,) = ctx.saved_tensors
    return None if d_loss is None else d_loss[:, None, None, None] * grad, None, None


def _refuse_second_derivative():
    if torch.is_grad_enabled():  # create_graph=True
        raise RuntimeError(
            "fastvis.torch.gram and gram_loss have first derivatives only; got a backward pass "
            "with create_graph=True. Leave them out of what is differentiated twice."
        )


_gram.register_autograd(_gram_backward, setup_context=_keep_images)
_gram_loss_and_grad.register_autograd(_gram_loss_backward, setup_context=_keep_grad)


# The kernels


def _plan_and_images(images, handle):
    """The plan that computes on these images, and the images as it takes them, mean subtracted."""
    model = _models.get(handle)
    if model is None:
        raise RuntimeError(
            "the GramModel of this operation has been deleted; keep it until after backward()."
        )
    images = images.detach()
    if model.mean is not None:
        mean = torch.as_tensor(model.mean, dtype=images.dtype, device=images.device)
        images = images - mean[:, None, None]
    if _gram_device.serves(images):
        shape, dtype, device = images.shape[-2:], images.dtype, images.device
        return _gram_device.plan_for(model, shape, model.padding, dtype, device), images
    return _gram_host.plan_for(model, images[0]), images


def _for_each(images, target):
    """The target of each image, (B, n, n), from one or B of them."""
    return target.detach().expand(len(images), -1, -1)


# Arguments. What depends on values is checked within the operators, out of the compiler's sight.


@torch.compiler.assume_constant_result  # the compiler makes it a constant and guards the model
def _handle(model):
    if model not in _handles:
        _handles[model] = next(_new_handle)
        _models[_handles[model]] = model
    return _handles[model]


def _check_images(images, model):
    if not isinstance(model, GramModel):
        raise TypeError(f"model must be a fastvis.textures.GramModel; got {type(model).__name__}.")
    if not isinstance(images, Tensor):
        raise TypeError(
            f"images must be a torch.Tensor (B, C, H, W); got {type(images).__name__}. "
            "For NumPy images use the methods of the model."
        )
    if images.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"images must be float32 or float64; got {images.dtype}. "
            "Convert them with images.float(), and divide by 255 if they are uint8."
        )
    if images.ndim != 4:
        raise ValueError(
            f"images must have 4 dimensions (B, C, H, W); got shape {tuple(images.shape)}. "
            "Pass images[None] for a single image."
        )
    if 0 in images.shape:
        raise ValueError(f"images must not be empty; got shape {tuple(images.shape)}.")
    if images.shape[1] != model.channels:
        raise ValueError(
            f"images must have {model.channels} channel(s) as axis 1; got shape "
            f"{tuple(images.shape)}. Move the channels there, or use a bank of that many."
        )
    if images.device.type not in ("cpu", "cuda"):
        raise ValueError(f"images must be on the CPU or a CUDA device; got {images.device}.")
    if unpack_dual(images).tangent is not None:  # torch would take the derivative for zero
        raise RuntimeError(
            "fastvis.torch.gram and gram_loss have no forward-mode derivative; "
            "use backward() or torch.autograd.grad."
        )


def _check_target(target, images, n_maps):
    """Return the target as a tensor like the images, (1, n, n) or (B, n, n)."""
    if not isinstance(target, (Tensor, np.ndarray)):
        raise TypeError(f"target must be a tensor or array; got {type(target).__name__}.")
    if isinstance(target, np.ndarray):
        target = torch.as_tensor(target, device=images.device)
    if target.requires_grad:
        raise ValueError(
            "target must not require a gradient: only images have one. Pass target.detach()."
        )
    if not target.is_floating_point():
        raise TypeError(f"target must be of a float dtype; got {target.dtype}.")
    if target.device != images.device:
        raise ValueError(
            f"target must be on the device of the images, {images.device}; got {target.device}. "
            "Pass target.to(images.device)."
        )
    shape, matrix = tuple(target.shape), (n_maps, n_maps)
    if shape not in (matrix, (images.shape[0], *matrix)):
        raise ValueError(
            f"target must have shape (n, n) or (B, n, n) with B = {images.shape[0]} images and "
            f"n = {n_maps} maps of the bank; got {shape}."
        )
    return target.to(images.dtype).reshape(-1, *matrix)


def _check_values(images, target=None):
    for name, tensor in (("images", images), ("target", target)):
        n_bad = 0 if tensor is None else tensor.numel() - int(torch.isfinite(tensor).sum())
        if n_bad:
            raise ValueError(
                f"{name} must be finite; got {n_bad} value(s) that are NaN or infinite. "
                "Remove or replace them first."
            )
    if target is not None and not target.flatten(1).any(dim=1).all():
        raise ValueError(
            "target must not be zero: the loss is relative to it. "
            "Was the reference constant and equal to the mean?"
        )
