"""How a region of an image loses what it shows. Every perturbation changes the whole image; regions of it are pasted.

| name | the pixels become | from |
|---|---|---|
| `noise` | plus Gaussian noise of deviation σ, as a fraction of the grey range | the COVID-19 study, σ = 0.1 |
| `uniform` | random grey levels, uniform over the range | Samek et al. 2017 |
| `blur` | themselves blurred by a Gaussian whose standard deviation is half a cell | after Fong and Vedaldi 2017 |
| `mean` | the image's mean grey level | |

Added noise of 0.1 leaves large opacities visible: its curves fall less than those of the others, for any map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

Perturbation = Literal["noise", "uniform", "blur", "mean"]
Pixels = UInt8[np.ndarray, "height width"]


@dataclass(frozen=True)
class Strength:
    """How strongly images are changed: `sigma` of the noise as a fraction of the grey range, `cell` side in pixels."""

    sigma: float
    cell: float


def noise(image: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """The image with Gaussian noise added, clipped to 0..255."""
    changed = image + rng.normal(0, strength.sigma * 255, image.shape)
    return np.rint(changed.clip(0, 255)).astype(np.uint8)


def uniform(image: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """Random grey levels alone."""
    return rng.integers(0, 256, image.shape, dtype=np.uint8)


def blur(image: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """The image blurred, so that nothing smaller than a cell is left."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(strength.cell / 2)))


def mean(image: Pixels, strength: Strength, rng: np.random.Generator) -> Pixels:
    """One flat grey."""
    return np.full_like(image, round(float(image.mean())))


PERTURBATIONS: dict[Perturbation, Callable[[Pixels, Strength, np.random.Generator], Pixels]] = {
    "noise": noise,
    "uniform": uniform,
    "blur": blur,
    "mean": mean,
}
