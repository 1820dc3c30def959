"""The layout of the COVID-19 Radiography Database: four class folders, images of 299², lung masks of 256²."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from xrt.runtime.phantoms.files import Row, save_contrasts, save_png, without_image
from xrt.runtime.phantoms.render import render

# What each class shows here. The names, with their space and their underscore, are the data set's.
CLASSES: dict[str, tuple[str, ...]] = {
    "COVID": ("peripheral",),
    "Lung_Opacity": ("Consolidation",),
    "Normal": (),
    "Viral Pneumonia": ("interstitial",),
}
_MASK = 256  # pixels


def prepare(out: Path) -> None:
    """Make the folders."""
    for name in CLASSES:
        (out / name / "images").mkdir(parents=True)
        (out / name / "masks").mkdir()


def one(index: int, out: Path, seed: int, size: int, contrast: tuple[float, float]) -> Row:
    """Write one image and its lung mask; classes take turns, which balances them, and count from 1."""
    name = list(CLASSES)[index % len(CLASSES)]
    rendering = render(index, seed=seed, size=size, contrast=contrast, findings=CLASSES[name])
    file = f"{name}-{index // len(CLASSES) + 1}.png"
    save_png(out / name / "images" / file, rendering.phantom.image, seed=seed, index=index)
    mask = Image.fromarray((255 * rendering.lungs).astype(np.uint8)).resize((_MASK, _MASK), Image.Resampling.NEAREST)
    save_png(out / name / "masks" / file, np.asarray(mask), seed=seed, index=index)
    return f"{name}/images/{file}", without_image(rendering.phantom)


def tables(out: Path, rows: list[Row]) -> None:
    """The data set's own tables hold sources, which phantoms have none of; `phantoms.csv` has the boxes."""
    save_contrasts(out, rows)
