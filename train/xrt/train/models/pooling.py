"""Pooling over positions between the average and the maximum.

For features a_ij at h x w positions and a sharpness r, log-sum-exp pooling is

    1 / r · log(mean of exp(r a_ij)),

the smooth maximum of Wang et al., CVPR 2017 (arXiv 1705.02315). Its derivatives by a_ij, like those of the average, add
up to 1 over the positions, so in front of a linear layer the Grad-CAM weight of a feature is its weight there over h w:
Grad-CAM equals CAM up to a constant.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LogSumExpPool(nn.Module):
    """Pooling between the average (sharpness r towards 0) and the maximum (r large) of every channel."""

    def __init__(self, sharpness: float) -> None:
        """`sharpness` is r."""
        super().__init__()
        self.sharpness = sharpness

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c 1 1"]:
        """Features [n, c, h, w] to [n, c, 1, 1]."""
        # Shifted by the maximum, or exp(r a) overflows float32 from r a = 88 on. The shift cancels in the
        # derivative.
        peak = x.detach().amax(dim=(2, 3), keepdim=True)
        mean = torch.exp((x - peak) * self.sharpness).mean(dim=(2, 3), keepdim=True)
        return peak + torch.log(mean) / self.sharpness
