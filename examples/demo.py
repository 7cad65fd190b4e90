"""Three textures that nobody has seen before, on one page.

Brick, gravel and grass (the photographs that scikit-image carries) are described by the Gram
matrices of 256 random filters, and new images with the same statistics are grown from noise.

    python examples/demo.py            writes demo/index.html
"""

import base64
import io
import time
from html import escape
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from skimage import data
from skimage.transform import resize

from fastvis.textures import FilterBank, GramModel, metrics, synthesize

SIZE = 192
ITERATIONS = 300

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>fastvis: textures from random filters</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem;
         padding: 0 1rem; color: #222; background: #fff; }}
  section {{ display: flex; flex-wrap: wrap; gap: 1.5rem; align-items: flex-start;
            margin: 2rem 0; }}
  figure {{ margin: 0; }}
  img {{ image-rendering: pixelated; display: block; }}
  figcaption {{ color: #666; font-size: .9rem; }}
  table {{ border-collapse: collapse; font-size: .9rem; }}
  td {{ padding: .15rem .8rem .15rem 0; }}
  td:last-child {{ text-align: right; font-variant-numeric: tabular-nums; }}
</style>
<h1>New textures from random filters</h1>
<p>Each texture on the right was grown from noise until the Gram matrix of {n_maps} random filters
(eight sizes, 3 to 55 pixels, no training) matched that of the photograph on its left, by
<code>fastvis.textures.synthesize</code>, after Ustyuzhaninov et al., ICLR 2017.</p>
{sections}
<p>{total:.0f} seconds in all. The held-out error is measured with random filters that the synthesis
never saw; beside it that of the photograph with its pixels shuffled. Novelty is 0 for a copy.</p>
</html>
"""

SECTION = """<section>
<figure><img src="{reference}" width="{reference_width}" alt="{name}">
<figcaption>{name}, photograph</figcaption></figure>
<figure><img src="{sample}" width="{sample_width}" alt="new {name}">
<figcaption>new {name}</figcaption></figure>
<table>{rows}</table>
</section>"""


def photograph(name):
    """A crop at half its resolution, 128 x 128, repeated to three channels."""
    image = getattr(data, name)()[:256, :256] / 255
    image = resize(image, (128, 128), anti_aliasing=True).astype(np.float32)
    return np.repeat(image[:, :, None], 3, axis=2)


def png(image):
    buffer = io.BytesIO()
    iio.imwrite(buffer, np.round(image * 255).astype(np.uint8), extension=".png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def grow(name):
    """The section of one texture."""
    reference = photograph(name)
    model = GramModel(FilterBank.random(n_maps=32, rng=0), mean=reference.mean(axis=(0, 1)))
    print(f"{name}: ", end="", flush=True)
    start = time.perf_counter()
    result = synthesize(reference, model, size=SIZE, max_iter=ITERATIONS, coarse_levels=1, rng=1)
    seconds = time.perf_counter() - start
    print(f"loss {result.loss:.2g} after {seconds:.0f} s", flush=True)

    pixels = reference.reshape(-1, 3)
    shuffled = np.random.default_rng(0).permutation(pixels).reshape(reference.shape)
    rows = {
        "loss (5)": f"{result.loss:.2g}",
        "loss, pixels shuffled": f"{model.loss(shuffled, model.target(reference)):.2g}",
        "held-out error": f"{metrics.heldout_gram_error(result.image, reference):.2g}",
        "held-out error, shuffled": f"{metrics.heldout_gram_error(shuffled, reference):.2g}",
        "novelty": f"{metrics.novelty(result.image, reference):.2f}",
        "evaluations": result.n_evaluations,
        "seconds": f"{seconds:.1f}",
        "milliseconds per evaluation": f"{1000 * seconds / result.n_evaluations:.0f}",
    }
    return SECTION.format(
        name=escape(name),
        reference=png(reference),
        reference_width=2 * reference.shape[1],
        sample=png(result.image),
        sample_width=2 * result.image.shape[1],
        rows="".join(f"<tr><td>{key}<td>{value}" for key, value in rows.items()),
    )


def main():
    start = time.perf_counter()
    sections = [grow(name) for name in ("brick", "gravel", "grass")]
    page = PAGE.format(
        n_maps=256, sections="\n".join(sections), total=time.perf_counter() - start
    )
    path = Path(__file__).resolve().parent.parent / "demo" / "index.html"
    path.parent.mkdir(exist_ok=True)
    path.write_text(page, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
