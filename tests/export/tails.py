"""Small classifiers whose ends differ, and a small vision transformer."""

from __future__ import annotations

import torch
from torch import nn


class Trunk(nn.Sequential):
    """64 px to 12 channels of 8 × 8."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU()
        )


class Classifier(nn.Module):
    def __init__(self, tail: nn.Module) -> None:
        super().__init__()
        self.trunk, self.tail = Trunk(), tail

    def forward(self, x):
        return self.tail(self.trunk(x))


class LogSumExp(nn.Module):
    """(1/r) log mean exp(r x), shifted by its maximum."""

    def forward(self, x):
        x = 10 * x.flatten(2)
        peak = x.amax(2, keepdim=True)
        return ((x - peak).exp().mean(2).log() + peak[:, :, 0]) / 10


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.SiLU(), nn.Conv2d(4, 12, 1))

    def forward(self, x):
        return x * self.gate(x).sigmoid()


class AttentionPool(nn.Module):
    """A learned query looks at all positions."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(width, 3, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(self.query.expand(len(x), -1, -1), tokens, tokens, need_weights=False)[0][:, 0]


class GeneralisedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x):
        return x.clamp(min=1e-4).pow(self.p).mean((2, 3)).pow(1 / self.p)


class BothPools(nn.Module):
    def forward(self, x):
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


class Reordered(nn.Module):
    """Classes put into the order of another data set, by indexing."""

    def forward(self, x):
        return x[:, [2, 0, 1]]


class TopMean(nn.Module):
    """The mean of the five highest positions: WILDCAT pooling."""

    def forward(self, x):
        return x.flatten(2).topk(5, dim=2).values.mean(2)


class Fifth(nn.Module):
    """A part of the features overwritten in place."""

    def forward(self, x):
        x = x.mean((2, 3)).clone()
        x[:, [4, 1]] = 0.5
        return x


class EinsumHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 12))

    def forward(self, x):
        return torch.einsum("nkhw,ck->nc", x, self.weight)


def linear(width: int = 12) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 3))


TAILS = {
    "average pooling, linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), linear()),
    "pooling written as view and mean": lambda: nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), linear()),
    "max pooling, flatten, perceptron": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)
    ),
    "global max pooling": lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), linear()),
    "both poolings": lambda: nn.Sequential(BothPools(), linear(24)),
    "log-sum-exp pooling": lambda: nn.Sequential(LogSumExp(), linear()),
    "generalised-mean pooling": lambda: nn.Sequential(GeneralisedMean(), linear()),
    "1×1 convolution, pooling": lambda: nn.Sequential(nn.Conv2d(12, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "1×1 convolution, log-sum-exp": lambda: nn.Sequential(nn.Conv2d(12, 3, 1), LogSumExp()),
    "classes reordered": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), linear(), Reordered()),
    "the highest positions": lambda: nn.Sequential(TopMean(), linear()),
    "features overwritten": lambda: nn.Sequential(Fifth(), linear()),
    "einsum": EinsumHead,
    "pooling to a size that does not divide": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(3), linear(108)),
    "squeeze and excite": lambda: nn.Sequential(SqueezeExcite(), nn.AdaptiveAvgPool2d(1), linear()),
    "attention pooling": lambda: nn.Sequential(AttentionPool(), linear()),
    "layer norm after the pooling": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)
    ),
    "sigmoid at the end": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), linear(), nn.Sigmoid()),
    "logits of [n, K, 1, 1]": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 3, 1)),
}


class Tokens(nn.Module):
    """A small vision transformer, tokens of 8 px; `extra` tokens before or after the grid."""

    def __init__(self, extra: int, head: str, suffix: bool = False, height: int = 64) -> None:
        super().__init__()
        width = 24
        self.embed = nn.Conv2d(1, width, 8, 8)
        self.extra = nn.Parameter(torch.randn(1, extra, width)) if extra else None
        self.position = nn.Parameter(torch.randn(1, height // 8 * 8 + extra, width) * 0.2)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True) for _ in range(3)
        )
        self.norm, self.head, self.kind, self.suffix = nn.LayerNorm(width), nn.Linear(width, 3), head, suffix

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        if self.extra is not None:
            parts = [self.extra.expand(len(x), -1, -1), x]
            x = torch.cat(parts[::-1] if self.suffix else parts, 1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x.mean(1) if self.kind == "mean" else x[:, -1] if self.suffix else x[:, 0])
