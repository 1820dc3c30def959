"""A trunk under a head that a recipe chooses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xrt.runtime.errors import ModelError
from xrt.train.models.heads import build_head
from xrt.train.models.spec import HeadSpec


class Assembled(nn.Module):
    """`trunk` makes maps [n, c, h, w] of images, `head` makes logits of the maps."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        """Both are used as they are."""
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n logits"]:
        """Normalised images float32 [n, c, h, w] to logits [n, outputs]."""
        return self.head(self.trunk(x))


def assemble(
    trunk: nn.Module, head: HeadSpec, image: tuple[int, int, int], outputs: int, dropout: float = 0.0
) -> Assembled:
    """`trunk` under a new head, for images of `image` (channels, height, width).

    Raises ModelError if the trunk gives no maps, or maps too small for the head.
    """
    mode = trunk.training
    with torch.no_grad():
        maps = trunk.eval()(torch.zeros(1, *image))
    trunk.train(mode)
    if maps.ndim != 4:
        raise ModelError(
            f"the trunk gives {list(maps.shape)}, which is no map [n, c, h, w]; use the model's own head"
            " (model.head=null)"
        )
    _, channels, height, width = maps.shape
    if head.kind == "mlp" and min(height, width) < head.pool:
        raise ModelError(
            f"the trunk's last map is {height} x {width}, smaller than the head's pooling of {head.pool}; use larger"
            " images (preprocessing.height) or a smaller model.head.pool"
        )
    return Assembled(trunk, build_head(head, channels, (height, width), outputs, dropout))
