"""Which layer is explained by default, and that its maps are those of autograd, for tails of every kind."""

from __future__ import annotations

import pytest
import torch
from export.parity import compile_and_check, randomise, source_of
from export.tails import TAILS, Classifier, Tokens, Trunk
from torch import nn

from xrt.export.compile import Request, compile_source

LAYERS = {"max pooling, flatten, perceptron": ("tail.0", 4), "squeeze and excite": ("tail.0", 8)}


@pytest.mark.parametrize("tail", TAILS)
def test_heads_of_any_kind(tail):
    torch.manual_seed(1)
    model = compile_and_check(source_of(randomise(Classifier(TAILS[tail]()))))
    cam = model.graph.cams[0]
    assert (cam.layer, cam.height) == LAYERS.get(tail, ("trunk", 8))
    assert (cam.channels, cam.width) == (12, cam.height)


@pytest.mark.parametrize(
    ("extra", "head", "suffix", "layer"),
    [(1, "token", False, "blocks.1"), (5, "token", False, "blocks.1"), (1, "token", True, "blocks.1"),
     (0, "mean", False, "norm"), (2, "mean", False, "norm")],
)  # fmt: skip
def test_tokens_are_put_back_on_their_grid(extra, head, suffix, layer):
    torch.manual_seed(1)
    model = compile_and_check(source_of(randomise(Tokens(extra, head, suffix))))
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
    cam = compile_and_check(source_of(randomise(Last()))).graph.cams[0]
    assert (cam.layer, cam.channels, cam.height, cam.width) == ("mix", 20, 8, 8)


def test_an_untrained_head_of_zeros_hides_no_structure():
    module = randomise(Tokens(1, "token"))
    nn.init.zeros_(module.head.weight)
    assert compile_source(source_of(module)).graph.cams[0].layer == "blocks.1"
