"""
Dead leaves: images of things that hide each other
==================================================

Leaves of random sizes fall on each other until nothing else is seen (Lee, Mumford, Huang, IJCV
2001). With radii as 1/r^3 leaves take as much room at every scale, and power falls with frequency
about as it does in photographs. Leaves take colors from a photograph, or show pieces of textures.

What must be seen: leaves of all sizes, everywhere, as many at the border as in the middle. The
spectrum of 1/r^3-leaves is nearly straight, as that of photographs is; that of leaves of one size
has a bend at their size. Textured leaves have more power at high frequencies. Labels and depths are
those of the image. Borders are smooth where pixels mix colors by area.

Measured, on 40 images of 256 x 256: from 2 to 40 cycles an image power falls with an exponent of
-2.0 for 1/r^3-leaves (-1.6 below 8 cycles, -2.3 above), where four photographs have -2.5 (-2.3,
-2.4); of -2.4 for leaves of one size (-0.8, -2.9); of -1.4 for textured leaves.
"""

# %%
# Colors are those of a photograph's pixels; textures are pieces of photographs of scikit-image. A
# leaf shows its piece from a random place.

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skimage import data
from skimage.transform import downscale_local_mean

from fastvis.scenes import DeadLeaves, PowerLaw

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, metavar="DIR", help="write the picture there")
args = parser.parse_args()

palette = data.coffee()[::20, ::20].reshape(-1, 3)
TEXTURES = (  # photograph, top, left, pixels averaged in each direction
    (data.brick, 0, 0, 2),
    (data.gravel, 0, 0, 2),
    (data.grass, 0, 0, 2),
    (data.immunohistochemistry, 50, 40, 1),
    (data.coffee, 278, 470, 1),
    (data.camera, 400, 404, 1),
)
SIDE = 108


def patch(load, top, left, factor):
    """A square of a photograph, uint8 RGB."""
    photograph = np.atleast_3d(load())
    square = photograph[top : top + factor * SIDE, left : left + factor * SIDE]
    square = downscale_local_mean(square, (factor, factor, 1))
    return np.broadcast_to(square.round(), (SIDE, SIDE, 3)).astype(np.uint8)


patches = np.stack([patch(*texture) for texture in TEXTURES])

# %%
# One row of shapes, one of textures and of what is known about an image, one of borders and
# spectra.

size, law = 320, PowerLaw(3, 160)
models = {
    "disks, radii as $1/r^3$": DeadLeaves(size, law, color=palette, antialias=True),
    "ellipses": DeadLeaves(size, law, leaf="ellipse", color=palette, antialias=True),
    "rectangles": DeadLeaves(size, law, leaf="rectangle", color=palette, antialias=True),
    "stars": DeadLeaves(size, law, leaf="star", color=palette, antialias=True),
    "textured disks": DeadLeaves(size, PowerLaw(6, 52), texture=patches, antialias=True),
    "textured polygons": DeadLeaves(
        size, PowerLaw(6, 52), leaf="polygon", texture=patches, antialias=True
    ),
}
start = time.perf_counter()
pictures = {name: model.sample(1, rng=2) for name, model in models.items()}
print(f"{len(models)} images of {size} x {size}: {time.perf_counter() - start:.2f} s")

figure = plt.figure(figsize=(10, 7.8), layout="constrained")
grid = figure.add_gridspec(3, 4)
axes = np.array([figure.add_subplot(grid[k // 4, k % 4]) for k in range(10)])
for ax in axes:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
for ax, (name, scenes) in zip(axes, pictures.items()):
    ax.imshow(scenes.images[0])
    ax.set_title(name, fontsize=9)

labels = pictures["textured polygons"].labels[0]
colors = np.random.default_rng(1).random((labels.max() + 1, 3))
axes[6].imshow(colors[labels])
axes[6].set_title("its labels", fontsize=9)
seen, rank = np.unique(labels, return_inverse=True)  # labels count from the front
axes[7].imshow(rank.reshape(labels.shape), cmap="gray_r")
axes[7].set_title(f"its depths, {len(seen)} leaves seen", fontsize=9)

for ax, antialias in zip(axes[8:], (False, True)):
    model = DeadLeaves(32, PowerLaw(2, 16), color=palette, antialias=antialias)
    ax.imshow(model.sample(1, rng=3).images[0])
    ax.set_title("32 x 32 pixels, " + ("by area" if antialias else "by center"), fontsize=9)

# %%
# Power spectra: mean over directions and over images, of gray values without their mean.


def spectrum(images):
    """Power by frequency, 1, 2, ... cycles an image."""
    gray = images.mean(axis=-1)
    n = gray.shape[-1]
    window = np.outer(*2 * [np.hanning(n)])
    power = np.abs(np.fft.fft2(window * (gray - gray.mean(axis=(1, 2), keepdims=True)))) ** 2
    frequency = np.hypot(*np.meshgrid(*2 * [n * np.fft.fftfreq(n)])).round().astype(int)
    sums = np.bincount(frequency.ravel(), power.mean(axis=0).ravel())
    return (sums / np.bincount(frequency.ravel()))[1 : n // 2]


def middle(photograph):
    """Gray values of 256 x 256 pixels, (256, 256, 1)."""
    top, left = (np.array(photograph.shape[:2]) - 256) // 2
    return np.atleast_3d(photograph)[top : top + 256, left : left + 256].mean(
        axis=-1, keepdims=True
    )


photographs = (data.astronaut(), data.camera(), data.rocket(), data.stereo_motorcycle()[0])
sets = {
    "photographs": np.stack([middle(photograph) for photograph in photographs]),
    "disks, $1/r^3$, 2 to 256": (PowerLaw(2, 256), {"color": palette}),
    "disks, all of 12": (12.0, {"color": palette}),
    "textured, $1/r^3$, 6 to 52": (PowerLaw(6, 52), {"texture": patches}),
}
ax = figure.add_subplot(grid[2, 2:])
for name, images in sets.items():
    if isinstance(images, tuple):
        radius, options = images
        images = DeadLeaves(256, radius, antialias=True, **options).sample(40, rng=0).images
    power = spectrum(images)
    frequencies = np.arange(1, len(power) + 1)
    exponents = []
    for low, high in ((2, 40), (2, 8), (8, 40)):
        picked = slice(low - 1, high)
        exponents.append(np.polyfit(np.log(frequencies[picked]), np.log(power[picked]), 1)[0])
    print(f"{name:28} exponents {np.round(exponents, 2)}")
    ax.loglog(frequencies, power / power[0], linewidth=1.4, label=f"{name}: {exponents[0]:.1f}")
ax.legend(loc="lower left", fontsize=7)
ax.set_title("power by cycles an image, and its exponent", fontsize=9)
ax.tick_params(labelsize=7)

if args.out is None:
    plt.show()
else:
    args.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out / "dead_leaves.png", dpi=110)
    print(args.out / "dead_leaves.png", "written")
