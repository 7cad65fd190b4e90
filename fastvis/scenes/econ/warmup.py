"""How experts come to differ before they compete, where classes differ in color; imports torch.

From random weights the competition often ends with one expert that wins everything, or with two
that share a class. Here experts are first taught regions: those of the K-means colors of pixels. No
labels enter, and no image is segmented for good: what follows is the competition.
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

N_PIXELS = 4000
DARKEST = 0.02  # decoders end in a sigmoid, which does not reach 0 or 1


def pixel_colors(images, n_colors, seed):
    """Return K-means colors, (n_colors, 3) in [0, 1], of pixels of (N, H, W, 3) images."""
    rng = np.random.default_rng(seed)
    where = tuple(rng.integers(n, size=N_PIXELS) for n in images.shape[:3])
    pixels = images[where].astype(np.float64)
    if images.dtype == np.uint8:
        pixels /= 255
    different = len(np.unique(pixels, axis=0))
    with threadpool_limits(1, user_api="openmp"):  # sums in one order
        fit = KMeans(min(n_colors, different), n_init=10, random_state=seed).fit(pixels)
    return np.resize(fit.cluster_centers_, (n_colors, 3))  # again, where there are too few


@torch.no_grad()
def start_colors(experts, images, seed):
    """Give each of `Experts` a color of pixels: to learn in the warm-up, and to paint with."""
    colors = pixel_colors(images, len(experts.experts), seed)
    experts.colors.copy_(torch.from_numpy(colors))
    for expert, color in zip(experts.experts, colors.clip(DARKEST, 1 - DARKEST)):
        expert.decoder.paint(torch.from_numpy(np.log(color / (1 - color))))


def color_regions(images, colors):
    """Return which of the colors (K, 3) is nearest to each pixel, 0 or 1, (K, N, 1, H, W)."""
    distances = (images - colors[:, None, :, None, None]).square().sum(2)
    nearest = F.one_hot(distances.argmin(0), len(colors))
    return nearest.permute(3, 0, 1, 2)[:, :, None].to(images)


def attention_loss(logits, region):
    """Cross-entropy of attention with what it is taught, summed over pixels, (N,)."""
    return F.binary_cross_entropy_with_logits(logits, region, reduction="none").sum((1, 2, 3))


def random_scope(regions, generator):
    """Return what is left when some experts, drawn for each image, have taken their regions."""
    chances = torch.rand(regions.shape[:2], generator=generator, device=generator.device)
    gone = (chances < 0.5).to(regions.device)
    gone &= ~gone.all(0)
    return 1 - (regions * gone[:, :, None, None, None]).sum(0)
