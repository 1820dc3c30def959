"""Which layer is explained by default, and that its maps are those of autograd, for tails of every kind."""

from __future__ import annotations

import pytest
import torch
from export.parity import drawn, hold, source_of
from torch import nn

from xrt.export.compilation import Request, compile_source
from xrt.runtime.errors import ModelError


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


def linear(width: int = 12) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 3))


TAILS = {
    "average pooling, linear": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), linear()),
    "pooling spelt as view and mean": lambda: nn.Sequential(nn.Flatten(2), nn.AdaptiveAvgPool1d(1), linear()),
    "max pooling, flatten, perceptron": lambda: nn.Sequential(
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 16, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 3)
    ),
    "global max pooling": lambda: nn.Sequential(nn.AdaptiveMaxPool2d(1), linear()),
    "both poolings": lambda: nn.Sequential(BothPools(), linear(24)),
    "log-sum-exp pooling": lambda: nn.Sequential(LogSumExp(), linear()),
    "generalised-mean pooling": lambda: nn.Sequential(GeneralisedMean(), linear()),
    "1×1 convolution, pooling": lambda: nn.Sequential(nn.Conv2d(12, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "1×1 convolution, log-sum-exp": lambda: nn.Sequential(nn.Conv2d(12, 3, 1), LogSumExp()),
    "squeeze and excite": lambda: nn.Sequential(SqueezeExcite(), nn.AdaptiveAvgPool2d(1), linear()),
    "attention pooling": lambda: nn.Sequential(AttentionPool(), linear()),
    "layer norm behind the pooling": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(12), nn.Linear(12, 3)
    ),
    "sigmoid at the end": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), linear(), nn.Sigmoid()),
    "logits of [n, K, 1, 1]": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 3, 1)),
}
LAYERS = {"max pooling, flatten, perceptron": ("tail.0", 4), "squeeze and excite": ("tail.0", 8)}


@pytest.mark.parametrize("tail", TAILS)
def test_heads_of_any_kind(tail):
    torch.manual_seed(1)
    model = hold(source_of(drawn(Classifier(TAILS[tail]()))))
    cam = model.graph.cams[0]
    assert (cam.layer, cam.height) == LAYERS.get(tail, ("trunk", 8))
    assert (cam.channels, cam.width) == (12, cam.height)


class Tokens(nn.Module):
    """A small vision transformer, tokens of 8 px; `extra` tokens before or behind the grid."""

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


@pytest.mark.parametrize(
    ("extra", "head", "suffix", "layer"),
    [(1, "token", False, "blocks.1"), (5, "token", False, "blocks.1"), (1, "token", True, "blocks.1"),
     (0, "mean", False, "norm"), (2, "mean", False, "norm")],
)  # fmt: skip
def test_tokens_are_put_back_on_their_grid(extra, head, suffix, layer):
    torch.manual_seed(1)
    model = hold(source_of(drawn(Tokens(extra, head, suffix))))
    cam = model.graph.cams[0]
    assert (cam.layer, cam.channels, cam.height, cam.width) == (layer, 24, 8, 8)


def test_a_map_of_tokens_stands_upright():
    """Tokens that light up for a bright patch must light up there, extra tokens and rectangular images or not."""
    from xrt.runtime.bundle.manifest import Preprocessing

    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(1, 2, 8, 8)
            nn.init.constant_(self.embed.weight, 1 / 64)
            nn.init.zeros_(self.embed.bias)
            self.extra = nn.Parameter(torch.zeros(1, 3, 2))

        def forward(self, x):
            tokens = self.embed(x).flatten(2).transpose(1, 2)
            return torch.cat([self.extra.expand(len(x), -1, -1), tokens], 1).exp().mean(1)

    from export.parity import run

    source = source_of(Brightness(), classes=2, preprocessing=Preprocessing(height=48, width=80))
    # Each channel is a class here, and a map of class scores is not explained by default.
    model = compile_source(source, Request(target_layers=("cat",)))
    images = torch.zeros(2, 1, 48, 80, dtype=torch.uint8)
    images[0, 0, 8:16, 64:72] = 255
    images[1, 0, 40:48, 0:8] = 255
    cams = run(model, source, images.numpy()).cams["cams"]
    assert cams.shape == (2, 2, 6, 10)
    assert [divmod(int(c[0].argmax()), 10) for c in cams] == [(1, 8), (5, 0)]


def test_channels_last_is_understood():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = Trunk()
            self.mix = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 20), nn.GELU())
            self.head = nn.Linear(20, 3)

        def forward(self, x):
            return self.head(self.mix(self.trunk(x).permute(0, 2, 3, 1)).mean((1, 2)))

    torch.manual_seed(1)
    cam = hold(source_of(drawn(Last()))).graph.cams[0]
    assert (cam.layer, cam.channels, cam.height, cam.width) == ("mix", 20, 8, 8)


def test_an_untrained_head_of_zeros_hides_no_structure():
    module = drawn(Tokens(1, "token"))
    nn.init.zeros_(module.head.weight)
    assert compile_source(source_of(module)).graph.cams[0].layer == "blocks.1"


def test_a_layer_that_the_class_token_alone_is_read_from():
    source = source_of(drawn(Tokens(1, "token")))
    with pytest.raises(ModelError, match=r"'blocks\.2' reaches the logits at none of its positions .*earlier"):
        compile_source(source, Request(target_layers=("blocks.2",)))


def test_a_layer_beside_the_road_to_the_logits():
    class Side(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.side, self.head = Trunk(), nn.Conv2d(12, 4, 1), nn.Linear(12, 3)

        def forward(self, x):
            x = self.trunk(x)
            self.side(x)
            return self.head(x.mean((2, 3)))

    with pytest.raises(ModelError, match="there is no layer 'side' on the way to the logits"):
        compile_source(source_of(drawn(Side())), Request(target_layers=("side",)))


def test_two_streams_have_no_common_layer():
    class Streams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = Trunk(), Trunk(), nn.Linear(24, 3)

        def forward(self, x):
            return self.head(torch.cat([self.left(x).mean((2, 3)), self.right(x).mean((2, 3))], 1))

    source = source_of(drawn(Streams()))
    with pytest.raises(ModelError, match=r"no spatial layer .*--target-layer; the last ones are right, .*left"):
        compile_source(source)
    assert hold(source, Request(target_layers=("left",))).graph.cams[0].layer == "left"


def test_a_layer_named_twice_is_explained_once():
    graph = compile_source(
        source_of(drawn(Classifier(TAILS["squeeze and excite"]()))), Request(("trunk", "trunk"))
    ).graph
    assert [cam.output for cam in graph.cams] == ["cams"]


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
    source = source_of(drawn(Classifier(nn.Sequential(tail(), nn.Flatten(), nn.Linear(features, 3)))))
    assert hold(source).graph.cams[0].layer == layer


def test_variance_is_pooled_too():
    class Spread(nn.Module):
        def forward(self, x):
            return torch.cat([x.mean((2, 3)), x.var((2, 3))], 1)

    torch.manual_seed(1)
    source = source_of(drawn(Classifier(nn.Sequential(Spread(), linear(24)))))
    assert hold(source).graph.cams[0].layer == "trunk"


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
    assert hold(source_of(drawn(Classifier(Last())))).graph.cams[0].layer == "trunk"
