"""The CAM family in torch, written independently of the graph's operators so that the two can be compared.

A and G are [n, K, h, w]; results are [n, h, w], before the ReLU. Formulas and constants are those of
`xrt.export.cams.methods`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float

from xrt.export.targets.activation_layout import ActivationLayout
from xrt.runtime.bundle.manifest import CamMethod

Map = Float[torch.Tensor, "n h w"]
Activations = Float[torch.Tensor, "n k h w"]


def _weighted(a: Activations, weights: Float[torch.Tensor, "n k"]) -> Map:
    return torch.einsum("nkhw,nk->nhw", a, weights)


def _plus_plus(a: Activations, g: Activations) -> Float[torch.Tensor, "n k"]:
    ratio = g**2 / (2 * g**2 + a.sum((2, 3), keepdim=True) * g**3 + 1e-6)
    return (g.relu() * ratio).sum((2, 3))


def _xgrad(a: Activations, g: Activations) -> Float[torch.Tensor, "n k"]:
    return (g * a / (a.sum((2, 3), keepdim=True) + 1e-7)).sum((2, 3))


METHODS: dict[CamMethod, Callable[[Activations, Activations], Map]] = {
    "gradcam": lambda a, g: _weighted(a, g.mean((2, 3))),
    "hirescam": lambda a, g: (g * a).sum(1),
    "gradcam++": lambda a, g: _weighted(a, _plus_plus(a, g)),
    "xgradcam": lambda a, g: _weighted(a, _xgrad(a, g)),
    "layercam": lambda a, g: (g.relu() * a).sum(1),
}


def as_map(layout: ActivationLayout, tensor: Float[torch.Tensor, "n ..."]) -> Activations:
    """An activation [n, …] as a map [n, channels, height, width], extra tokens left out."""
    tensor = tensor.movedim(layout.channel_axis, 1)
    if tensor.ndim == 4:
        return tensor
    grid = tensor[:, :, layout.offset : layout.offset + layout.height * layout.width]
    return grid.unflatten(2, (layout.height, layout.width))
