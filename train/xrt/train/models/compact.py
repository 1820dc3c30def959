"""A small residual network for small radiographs, made for fast training and for heatmaps that find small lesions.

Stages of one 3 x 3 convolution that widens and some residual blocks (He et al., arXiv 1512.03385). Max
pooling halves the side between stages: a lesion a few pixels wide survives it better than a strided
convolution. The side is halved only two or three times, because a Grad-CAM can be no finer than the last
feature map. The head is a pooling over positions and one linear layer.

Nothing in training ties a feature to the position of its cause: a kernel may have most of its weight beside its centre,
and then heatmaps point beside the lesion, by several pixels at the coarse stages. `centred` keeps the kernels of the
later stages symmetric under rotation by 180 degrees, so that the response to a symmetric lesion is at its centre.

Two poolings are offered, the average and the log-sum-exp of `xrt.train.models.pooling`. `lse` learns small lesions
in far fewer epochs, since `average` dilutes a lesion that fills one cell of 256 by 256.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xrt.train.models.pooling import LogSumExpPool
from xrt.train.models.spec import CompactSpec

# The initial bias of the last batch norm. Most positions are then 0 after the ReLU, and the others dominate the pooled
# feature; with 0, half of all positions are above 0 and hide them.
SPARSE_START = -1.5


class ConvNormReLU(nn.Sequential):
    """A 3 x 3 convolution, batch norm, ReLU: [n, inputs, h, w] to [n, outputs, h, w]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        """`inputs` and `outputs` count channels."""
        super().__init__(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to their input, then ReLU."""

    def __init__(self, channels: int) -> None:
        """The block keeps `channels` and size."""
        super().__init__()
        self.inner = nn.Sequential(
            ConvNormReLU(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Features to features of the same shape."""
        return self.relu(self.inner(x) + x)


def hold_symmetric(convolution: nn.Conv2d) -> None:
    """Make every kernel equal to itself turned by 180 degrees, and keep it so in training.

    Symmetric kernels stay symmetric under any elementwise optimiser if their gradients are symmetric.
    """
    weight = convolution.weight
    with torch.no_grad():
        weight.add_(weight.flip((2, 3))).div_(2)
    weight.register_hook(lambda gradient: (gradient + gradient.flip((2, 3))) / 2)


def _first_layer(spec: CompactSpec, stage: int) -> int:
    """The index in `features` at which a stage begins."""
    return sum(1 + spec.blocks[i] + (i < spec.halvings) for i in range(stage))


class Compact(nn.Module):
    """The whole network; `features` ends in the map that heatmaps are made from."""

    def __init__(self, spec: CompactSpec, channels: int, outputs: int, dropout: float) -> None:
        """`channels` counts the input's, `outputs` the logits."""
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for stage, (width, blocks) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            layers.append(ConvNormReLU(inputs, width))
            layers.extend(ResidualBlock(width) for _ in range(blocks))
            if stage < spec.halvings:
                layers.append(nn.MaxPool2d(2))
            inputs = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1) if spec.pooling == "average" else LogSumExpPool(spec.sharpness)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if spec.centred is not None:
            for layer in self.features[_first_layer(spec, spec.centred) :].modules():
                if isinstance(layer, nn.Conv2d):
                    hold_symmetric(layer)
        last = [module for module in self.features.modules() if isinstance(module, nn.BatchNorm2d)][-1]
        nn.init.constant_(last.bias, SPARSE_START)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n logits"]:
        """Normalised images float32 [n, c, h, w] to logits [n, outputs]."""
        return self.classifier(self.dropout(self.pool(self.features(x)).flatten(1)))
