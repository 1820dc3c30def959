"""A small residual network for small radiographs, made for fast training and for heatmaps that find small lesions.

A convolution stem and three stages of basic residual blocks (He et al., arXiv 1512.03385), then global average pooling
and a linear layer. It stops at a quarter or an eighth of the input's side, because a Grad-CAM can be no finer than the
last feature map. Since the head is pooling and one linear layer, Grad-CAM equals CAM up to a constant.
"""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xrt.train.models.spec import CompactSpec


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch norm, added to the input or to its 1 x 1 projection, then ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """`inputs` and `outputs` count channels; `stride` shrinks the side."""
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.projection = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Float[Tensor, "n inputs h w"]) -> Float[Tensor, "n outputs h2 w2"]:
        """Features [n, inputs, h, w] to [n, outputs, h / stride, w / stride]."""
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.projection(x))


class Compact(nn.Module):
    """The whole network; `features` ends in the map that heatmaps are made from."""

    def __init__(self, spec: CompactSpec, channels: int, outputs: int, dropout: float) -> None:
        """`channels` counts the input's, `outputs` the logits."""
        super().__init__()
        first = spec.widths[0]
        layers: list[tuple[str, nn.Module]] = [("stem", _stem(channels, first, spec.stem_stride))]
        inputs = first
        for stage, width in enumerate(spec.widths, 1):
            for block in range(spec.blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                layers.append((f"stage{stage}_{block}", ResidualBlock(inputs, width, stride)))
                inputs = width
        self.features = nn.Sequential(OrderedDict(layers))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(inputs, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n logits"]:
        """Normalised images float32 [n, c, h, w] to logits [n, outputs]."""
        return self.classifier(self.dropout(self.pool(self.features(x)).flatten(1)))


def _stem(channels: int, width: int, stride: int) -> nn.Sequential:
    # A wider kernel where the stem strides, so that every pixel is seen by neighbouring positions.
    kernel = {1: 3, 2: 5, 4: 7}[stride]
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )
