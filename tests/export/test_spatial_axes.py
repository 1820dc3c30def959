"""A tensor that only has the size of a grid is not treated as a map of the image."""

from __future__ import annotations

import pytest
import torch
from export.parity import compile_and_check, randomise, source_of
from export.tails import Classifier, linear
from torch import nn


class Gated(nn.Module):
    """Attention over instances: weights [n, 1, 64] times features [n, 64, 16] leave 16 numbers, not a grid of 4 × 4."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.value = nn.Linear(12, 1), nn.Linear(12, 16)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return torch.bmm(self.weight(x).softmax(1).transpose(1, 2), self.value(x))


class Bilinear(nn.Module):
    """The covariance of channels is square, and no map."""

    def forward(self, x):
        x = x.flatten(2)
        return torch.bmm(x, x.transpose(1, 2)) / 64


class Queries(nn.Module):
    """A decoder's queries are tokens without a place."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, 18, 12))
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        return self.attention(self.queries.expand(x.shape[0], -1, -1), x, x, need_weights=False)[0]


class Unfolded(nn.Module):
    """A vector that is given the shape of a map."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 256)

    def forward(self, x):
        return self.linear(x.mean((2, 3))).unflatten(1, (4, 8, 8))


class Normalised(nn.Module):
    """Group normalisation joins channels with positions for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.mix = nn.GroupNorm(1, 12), nn.Conv2d(12, 10, 1)

    def forward(self, x):
        return self.mix(self.norm(x).relu())


@pytest.mark.parametrize(
    ("tail", "layer", "features"),
    [(Gated, "trunk", 16), (Bilinear, "trunk", 144), (Queries, "trunk", 216), (Unfolded, "trunk", 256),
     (Normalised, "tail.0", 640)],
)  # fmt: skip
def test_a_square_number_of_features_is_no_grid(tail, layer, features):
    torch.manual_seed(1)
    source = source_of(randomise(Classifier(nn.Sequential(tail(), nn.Flatten(), nn.Linear(features, 3)))))
    assert compile_and_check(source).graph.cams[0].layer == layer


def test_variance_is_pooled_too():
    class Spread(nn.Module):
        def forward(self, x):
            return torch.cat([x.mean((2, 3)), x.var((2, 3))], 1)

    torch.manual_seed(1)
    source = source_of(randomise(Classifier(nn.Sequential(Spread(), linear(24)))))
    assert compile_and_check(source).graph.cams[0].layer == "trunk"


def test_the_end_of_a_recurrence_is_no_map():
    """The last token alone is read: the tokens before the recurrence are explained instead, if it has a rule at all."""

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

        def forward(self, x):
            tokens = x.flatten(2).transpose(1, 2)
            return self.head((self.mix(tokens) + tokens.mean(1, keepdim=True))[:, -1])

    torch.manual_seed(1)
    assert compile_and_check(source_of(randomise(Classifier(Last())))).graph.cams[0].layer == "trunk"
