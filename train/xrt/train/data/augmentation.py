"""Random changes of training images by torchvision's transforms (v2): rotations, shifts, crops, changes of exposure.

Flips are off unless asked for. Left and right differ in a chest: the heart's apex, the liver and the stomach
bubble are on one side, and a mirrored radiograph shows a condition (situs inversus) that the labels do not name.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import torch
from jaxtyping import UInt8
from pydantic import Field
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from xrt.runtime.bundle.manifest import Part


class AugmentationSpec(Part):
    """How far images are changed; every change is drawn uniformly up to its limit, for every image on its own.

    `rotation` and `shear` are in degrees either way, `translation` a fraction of the side, `scale`, `brightness` and
    `contrast` relative (0.1: factors 0.9 to 1.1), `crop` the largest fraction of the area that is cut away before the
    rest is enlarged, `gamma` in powers of two (0.5: exponents 0.71 to 1.41), `noise` the largest standard deviation of
    Gaussian noise as a fraction of the grey range, `flip` the probability of a mirror image.
    """

    rotation: float = Field(default=0.0, ge=0, le=180)
    translation: float = Field(default=0.0, ge=0, lt=1)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, le=45)
    crop: float = Field(default=0.0, ge=0, lt=1)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    gamma: float = Field(default=0.0, ge=0, le=3)
    noise: float = Field(default=0.0, ge=0, le=1)
    flip: float = Field(default=0.0, ge=0, le=1)


class RandomGamma(v2.Transform):
    """Raises pixels in 0..1 to the power of 2^u, u uniform within `limit` either way."""

    def __init__(self, limit: float) -> None:
        """`limit` is in powers of two."""
        super().__init__()
        self.limit = limit

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the exponent."""
        return {"gamma": 2.0 ** float(torch.empty(()).uniform_(-self.limit, self.limit))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Apply it."""
        return F.adjust_gamma(inpt, params["gamma"])


class RandomNoise(v2.Transform):
    """Adds Gaussian noise to pixels in 0..1, its standard deviation uniform up to `limit`."""

    def __init__(self, limit: float) -> None:
        """`limit` is a fraction of the grey range."""
        super().__init__()
        self.limit = limit

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the standard deviation."""
        return {"sigma": float(torch.empty(()).uniform_(0, self.limit))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Add the noise."""
        return F.gaussian_noise(inpt, sigma=params["sigma"])


def build_augmentation(spec: AugmentationSpec, height: int, width: int) -> v2.Transform | None:
    """The transforms for grey uint8 images [1, height, width], uint8 again; None if nothing is to be changed."""
    steps: list[v2.Transform] = []
    if spec.rotation or spec.translation or spec.scale or spec.shear:
        # Outside the image it is as dark as at its edge: no test image has black wedges.
        margin = _reach(spec, max(height, width))
        steps += [
            v2.Pad(margin, padding_mode="edge"),
            v2.RandomAffine(
                degrees=(-spec.rotation, spec.rotation),
                # Fractions of the padded side.
                translate=(
                    spec.translation * width / (width + 2 * margin),
                    spec.translation * height / (height + 2 * margin),
                ),
                scale=(1 - spec.scale, 1 + spec.scale),
                shear=spec.shear or None,
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.CenterCrop((height, width)),
        ]
    if spec.crop:
        steps.append(v2.RandomResizedCrop((height, width), scale=(1 - spec.crop, 1.0), ratio=(0.9, 1 / 0.9)))
    if spec.flip:
        steps.append(v2.RandomHorizontalFlip(spec.flip))
    if spec.brightness or spec.contrast:
        steps.append(v2.ColorJitter(brightness=spec.brightness, contrast=spec.contrast))
    if spec.gamma:
        steps.append(RandomGamma(spec.gamma))
    if spec.noise:
        steps.append(RandomNoise(spec.noise))
    if not steps:
        return None
    return v2.Compose([v2.ToDtype(torch.float32, scale=True), *steps, v2.ToDtype(torch.uint8, scale=True)])


def augment(images: UInt8[Tensor, "n h w"], transform: v2.Transform, seeds: list[int]) -> UInt8[Tensor, "n h w"]:
    """Changed copies of grey images. What happens to an image depends on its seed alone."""
    with torch.random.fork_rng(devices=[]):
        copies = []
        for image, seed in zip(images, seeds, strict=True):
            torch.manual_seed(seed)
            copies.append(transform(image[None])[0])
    return torch.stack(copies)


def mixed_seed(*parts: object) -> int:
    """A 63-bit seed that depends on all `parts`, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _reach(spec: AugmentationSpec, side: int) -> int:
    """How many pixels from outside the image the strongest change can bring in."""
    angle = math.radians(min(spec.rotation, 45.0))
    reach = math.cos(angle) + math.sin(angle) + math.tan(math.radians(spec.shear))
    return math.ceil(side * (reach / (1 - spec.scale) - 1 + 2 * spec.translation) / 2) + 1
