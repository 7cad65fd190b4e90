"""The terms of the learning objective, equations (10) to (13); imports torch.

All are sums over pixels or latents, in nats, one number an image. Probabilities of a region enter
as logits: the scope cancels in ``log q / p``, so nothing has to be clamped where it is zero.
"""

import torch
import torch.nn.functional as F

TINY = 1e-12  # log(0) of a pixel that is certain to be taken; its factor is zero


def appearance_loss(images, region, appearance, sigma):
    """(10): Gaussian negative log-likelihood of the image within its region, without constants."""
    return (region * (images - appearance).square()).sum((1, 2, 3)) / (2 * sigma**2)


def latent_kl(mean, log_variance):
    """(11): from ``N(mean, diag(exp(log_variance)))`` to ``N(0, I)``."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def region_kl(scope, attention_logits, shape_logits):
    """(12): from Bernoulli(scope * attention) to Bernoulli(scope * shape).

    Where the scope is zero it is zero: there the shape is free, and is painted behind what hides
    it. Attention logits may be infinite.
    """
    outside = 1 - scope
    taken = scope * torch.sigmoid(attention_logits)
    left = outside + scope * torch.sigmoid(-attention_logits)
    not_painted = outside + scope * torch.sigmoid(-shape_logits)
    inside = taken * (F.logsigmoid(attention_logits) - F.logsigmoid(shape_logits))
    beside = left * (torch.log(left + TINY) - torch.log(not_painted + TINY))
    return (inside + beside).sum((1, 2, 3))
