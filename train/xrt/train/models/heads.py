"""Heads that turn a trunk's last map, float32 [n, c, h, w], into logits [n, outputs]."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from xrt.train.models.pooling import LogSumExpPool
from xrt.train.models.spec import HeadSpec


def build_head(spec: HeadSpec, channels: int, map_size: tuple[int, int], outputs: int, dropout: float) -> nn.Sequential:
    """A head on maps [n, channels, *map_size]; its last layer, `classifier`, is linear with dropout in front of it.

    `linear`: global average pooling. `lse`: a 1 x 1 convolution to `transition` channels, where there is one, and
    log-sum-exp pooling. `mlp`: max-pooling by `pool`, all positions flattened, a hidden layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if spec.kind == "mlp":
        height, width = (side // spec.pool for side in map_size)
        if spec.pool > 1:
            layers["pool"] = nn.MaxPool2d(spec.pool)
        layers["flatten"] = nn.Flatten()
        layers["hidden"] = nn.Linear(channels * height * width, spec.hidden)
        layers["relu"] = nn.ReLU()
        features = spec.hidden
    else:
        features = channels
        if spec.kind == "lse" and spec.transition is not None:
            features = spec.transition
            layers["transition"] = nn.Conv2d(channels, features, 1)
        layers["pool"] = nn.AdaptiveAvgPool2d(1) if spec.kind == "linear" else LogSumExpPool(spec.sharpness)
        layers["flatten"] = nn.Flatten()
    layers["dropout"] = nn.Dropout(dropout)
    layers["classifier"] = nn.Linear(features, outputs)
    return nn.Sequential(layers)
