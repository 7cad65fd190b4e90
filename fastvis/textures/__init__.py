"""Textures as Gram matrices of filter responses: models, synthesis, inpainting, metrics.

::

    bank.py        FilterBank: random, Fourier, PCA and k-means filters
    model.py       GramModel: bank -> nonlinearity -> Gram matrix, loss, gradient
    vgg.py         VGGLoss: the same for VGG-19 (torch)
    synthesis.py   synthesize: a new image with a reference's statistics
    inpainting.py  inpaint: the same inside a mask
    optimize.py    what both do: L-BFGS-B over pixels
    distances.py   distances between textures, eqs (2) and (3), Fig. 6
    metrics.py     how good a sample is, without a trained network
    patches.py     random patches of images

Source: Ustyuzhaninov, Brendel, Gatys, Bethge, "What does it take to generate natural textures?",
ICLR 2017; equation numbers in this package are that paper's.
"""

from . import metrics
from .bank import FilterBank
from .distances import distance_matrix, gram_distance, pixel_distance
from .inpainting import frame_mask, inpaint
from .model import IMAGENET_MEAN, GramModel
from .optimize import SynthesisResult
from .synthesis import SynthesisSamples, synthesize

__all__ = [
    "IMAGENET_MEAN",
    "FilterBank",
    "GramModel",
    "SynthesisResult",
    "SynthesisSamples",
    "VGGLoss",
    "distance_matrix",
    "frame_mask",
    "gram_distance",
    "inpaint",
    "metrics",
    "pixel_distance",
    "synthesize",
]


def __getattr__(name):
    if name == "VGGLoss":  # imports torch
        from .vgg import VGGLoss

        return VGGLoss
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
