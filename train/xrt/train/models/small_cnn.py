"""A plain convolutional network to train from scratch: three stages and one hidden layer.

Each stage is a 3 x 3 convolution, ReLU and max-pooling by 2; then all positions are flattened into a hidden layer. Most
of its weights are there, so dropout in front of the last layer matters.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from xrt.train.models.spec import SmallCnnSpec


def small_cnn_trunk(spec: SmallCnnSpec, channels: int) -> nn.Sequential:
    """Images [n, channels, H, W] to maps [n, spec.widths[-1], H / 2^stages, W / 2^stages]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((channels, *spec.widths)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)
