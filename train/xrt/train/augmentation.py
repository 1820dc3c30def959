"""Random changes of training images: small turns, shifts and scalings, and changes of exposure.

Drawn for every image on its own and applied to a whole batch at once, on the device that trains. torchvision's
transforms draw one change a call, so they go image by image: at 28 px that took 0.14 ms an image on one core, this
0.01; at 128 px the two are equal.

Flips are off unless asked for. Left and right differ in a chest: the heart's apex, the liver and the stomach
bubble lie on one side, and a mirrored film shows a condition (situs inversus) that the labels do not speak
of.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from xrt.runtime.bundle.manifest import Part


class AugmentationSpec(Part):
    """How far images are changed; every change is drawn uniformly from -limit to limit.

    `rotation` is in degrees, `translation` a share of the side, `scale` and `contrast` relative (0.1: 0.9 to 1.1),
    `brightness` in shares of the full grey range, `gamma` in powers of two (0.5: exponents 0.71 to 1.41),
    `noise` the largest standard deviation of Gaussian noise in shares of the grey range. `shear` is in
    degrees, `flip` the probability of a mirror image.
    """

    rotation: float = Field(default=0.0, ge=0, le=180)
    translation: float = Field(default=0.0, ge=0, lt=1)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, le=45)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, lt=1)
    gamma: float = Field(default=0.0, ge=0, le=3)
    noise: float = Field(default=0.0, ge=0, le=1)
    flip: float = Field(default=0.0, ge=0, le=1)


def augment(images: Float[Tensor, "n 1 h w"], spec: AugmentationSpec) -> Float[Tensor, "n 1 h w"]:
    """Changed copies of grey images, float32 [n, 1, H, W] in 0..1, drawn from torch's global random state."""
    if spec.rotation or spec.translation or spec.scale or spec.shear or spec.flip:
        images = _warp(images, spec)
    return _expose(images, spec)


def _warp(images: Float[Tensor, "n 1 h w"], spec: AugmentationSpec) -> Float[Tensor, "n 1 h w"]:
    n, _, height, width = images.shape
    turn = _draw(n, images) * math.radians(spec.rotation)
    shear = torch.tan(_draw(n, images) * math.radians(spec.shear))
    zoom = 1 + _draw(n, images) * spec.scale
    mirror = torch.where(torch.rand(n, device=images.device) < spec.flip, -1.0, 1.0)
    cos, sin = torch.cos(turn) / zoom, torch.sin(turn) / zoom
    # `affine_grid` works in coordinates of -1..1 on both axes, so a turn of a non-square image needs their
    # ratio.
    ratio = height / width
    matrix = torch.stack(
        [
            torch.stack([cos * mirror, (-sin + cos * shear) * ratio, 2 * spec.translation * _draw(n, images)], 1),
            torch.stack([sin * mirror / ratio, cos + sin * shear, 2 * spec.translation * _draw(n, images)], 1),
        ],
        1,
    )
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    # Outside the film it is as dark as at its edge: a black wedge would be a mark that no test image has.
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _expose(images: Float[Tensor, "n 1 h w"], spec: AugmentationSpec) -> Float[Tensor, "n 1 h w"]:
    n = len(images)

    def draw() -> Float[Tensor, "n 1 1 1"]:
        return _draw(n, images).view(n, 1, 1, 1)

    if spec.gamma:
        images = images.clamp(1e-6, 1) ** torch.exp2(draw() * spec.gamma)
    if spec.contrast or spec.brightness:
        centre = images.mean(dim=(2, 3), keepdim=True)
        images = (images - centre) * (1 + draw() * spec.contrast) + centre + draw() * spec.brightness
    if spec.noise:
        images = images + torch.randn_like(images) * (draw().abs() * spec.noise)
    return images.clamp(0, 1)


def _draw(n: int, like: Tensor) -> Float[Tensor, " n"]:
    return torch.rand(n, device=like.device) * 2 - 1
