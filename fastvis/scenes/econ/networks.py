"""The networks of one expert: attention, encoder and decoder; imports torch.

Tensors are ``(N, C, H, W)``. Experts are separate modules, run one after the other, the losers
without gradients: a plain loop with gradients for all takes longer (`benchmarks/bench_econ.py`).
`torch.vmap` over stacked weights was slower when measured on a CPU.
"""

import torch
import torch.nn.functional as F
from torch import nn

LEAK = 0.1


class Attention(nn.Module):
    """U-Net from an image and its scope to attention logits, of any size (C.2.2).

    ``n`` blocks down (3 x 3 convolution, instance norm, ReLU) with ``n - 1`` halvings between them,
    and as many up again, with skip connections. What is fully connected at the bottom of other
    networks of this kind, and ties them to one image size, is a layer on the mean over positions.
    """

    def __init__(self, channels):
        super().__init__()
        inputs = (4, *channels[:-1])
        self.down = nn.ModuleList(_block(i, o) for i, o in zip(inputs, channels))
        self.whole = nn.Linear(channels[-1], channels[-1])
        outputs = (channels[0], *channels[:-1])
        self.up = nn.ModuleList(_block(2 * i, o) for i, o in zip(channels, outputs))
        self.out = nn.Conv2d(channels[0], 1, 1)

    def forward(self, images, scope):
        x = torch.cat([images, scope], dim=1)
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2, ceil_mode=True))
            skips.append(x)
        x = x + F.relu(self.whole(x.mean(dim=(2, 3))))[:, :, None, None]
        for skip, block in zip(reversed(skips), reversed(self.up)):
            if x.shape[2:] != skip.shape[2:]:
                x = F.interpolate(x, size=skip.shape[2:], mode="nearest")
            x = block(torch.cat([skip, x], dim=1))
        return self.out(x)


class Encoder(nn.Module):
    """Image within a region -> mean and log-variance of the latents, ``(N, L)`` each (C.2.1).

    The rectifier of the few hidden units leaks: when all of them die, early in the training, the
    expert is lost, since it then paints the mean of its class whatever it sees.
    """

    def __init__(self, size, latent_dim, n_layers, n_features):
        super().__init__()
        layers, n_in = [], 4
        for _ in range(n_layers):
            layers += [nn.Conv2d(n_in, n_features, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            n_in = n_features
        self.blocks = nn.Sequential(*layers)
        n_positions = (size[0] >> n_layers) * (size[1] >> n_layers)
        self.hidden = nn.Linear(n_features * n_positions, 4 * latent_dim)
        self.out = nn.Linear(4 * latent_dim, 2 * latent_dim)

    def forward(self, images, region):
        x = self.blocks(torch.cat([images * region, region], dim=1))
        return self.out(F.leaky_relu(self.hidden(x.flatten(1)), LEAK)).chunk(2, dim=1)


class Decoder(nn.Module):
    """Spatial broadcast decoder: latents -> appearance in [0, 1] and shape logits (C.2.1)."""

    def __init__(self, size, latent_dim, n_layers, n_features):
        super().__init__()
        self.latent_dim = latent_dim
        rows, columns = (torch.linspace(-1, 1, n) for n in size)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        self.register_buffer("grid", grid[None], persistent=False)
        layers, n_in = [], latent_dim + 2
        for _ in range(n_layers):
            layers += [nn.Conv2d(n_in, n_features, 3, padding=1), nn.ReLU()]
            n_in = n_features
        self.blocks = nn.Sequential(*layers, nn.Conv2d(n_in, 4, 1))

    def paint(self, color):
        """Start with one color, given as logits (3,)."""
        self.blocks[-1].bias[:3] = color.to(self.blocks[-1].bias)

    def forward(self, latents):
        n, (height, width) = len(latents), self.grid.shape[2:]
        spread = latents[:, :, None, None].expand(-1, -1, height, width)
        x = torch.cat([spread, self.grid.expand(n, -1, -1, -1)], dim=1)
        x = self.blocks(x.contiguous(memory_format=torch.channels_last))
        return torch.sigmoid(x[:, :3]), x[:, 3:]


class Expert(nn.Module):
    """What explains one class of objects: where it is (attention), and what it is (a VAE)."""

    def __init__(self, size, latent_dim, n_layers, n_features, attention_channels):
        super().__init__()
        self.attention = Attention(attention_channels)
        self.encoder = Encoder(size, latent_dim, n_layers, n_features)
        self.decoder = Decoder(size, latent_dim, n_layers, n_features)


def _block(n_in, n_out):
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
        nn.GroupNorm(n_out, n_out),
        nn.ReLU(),
    )
