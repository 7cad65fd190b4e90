"""What the ECON figures share: pictures of layers, tables, and the end of a script."""

import matplotlib.pyplot as plt
import numpy as np

GRAY = 0.75  # where a layer is not
COLUMNS = (
    "left, $s_t \\odot x$",
    "region $r_t$",
    "appearance $x_t$",
    "$r_t \\odot x_t$",
    "shape $m_t$",
    "$m_t \\odot x_t$",
)


def on_gray(appearance, mask):
    """Images (..., H, W, 3) where a mask (..., H, W) is, gray elsewhere."""
    mask = np.asarray(mask, np.float32)[..., None]
    return mask * appearance + (1 - mask) * GRAY


def show(ax, image, title="", label=""):
    """An image, or a mask in black and white, without axes."""
    image = np.asarray(image, np.float32)
    ax.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set(color="0.6", linewidth=0.4)
    ax.set_title(title, fontsize=8)
    ax.set_ylabel(label, fontsize=8)


def row(axes, images, label="", titles=()):
    """Images side by side; places that are left over stay empty."""
    for i, ax in enumerate(axes):
        if i < len(images):
            show(ax, images[i], titles[i] if i < len(titles) else "", label if i == 0 else "")
        else:
            ax.axis("off")


def steps(axes, image, parts, i, names, titles=COLUMNS):
    """The layers of image i, one in a row of axes; ``names`` of experts are written beside them."""
    image = np.asarray(image, np.float32) / 255
    for t, ax in enumerate(axes):
        region, shape = parts.region[i, t], parts.shape[i, t]
        appearance = parts.appearance[i, t]
        left = on_gray(image, parts.scope[i, t])
        pictures = (left, region, appearance, on_gray(appearance, region), shape)
        pictures += (on_gray(appearance, shape),)
        row(ax, pictures, f"t' = {t + 1}\n{names[parts.winner[i, t]]}", titles if t == 0 else ())


def panel_letter(figure, letter):
    figure.suptitle(letter, x=0.015, ha="left", fontsize=12, fontweight="bold")


def table(header, rows):
    """Print rows of cells; floats with two digits, a dash for what is not defined."""
    rows = [[cell(x) for x in row] for row in rows]
    first, *others = (max(map(len, column)) for column in zip(header, *rows))
    line = "  ".join([f"{{:{first}}}", *(f"{{:>{width}}}" for width in others)])
    print(line.format(*header))
    for cells in rows:
        print(line.format(*cells))
    print(flush=True)


def cell(x):
    """A value of a table as text."""
    if isinstance(x, float):
        return "-" if np.isnan(x) else f"{x:.2f}" if abs(x) >= 0.095 or x == 0 else f"{x:.1g}"
    return str(x)


def finish(figure, name, args):
    """Show the figure, or write it to ``--out``."""
    if args.out is None:
        plt.show()
        return
    path = args.out / f"{name}.png"
    figure.savefig(path, dpi=110)
    print(f"{path.name} written")
