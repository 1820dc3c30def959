"""Layers that a user names."""

from __future__ import annotations

import pytest
import torch
from export.parity import compile_and_check, randomise, source_of
from export.tails import TAILS, Classifier, Tokens, Trunk
from torch import nn

from xrt.export.compile import Request, compile_source
from xrt.runtime.errors import ModelError


def test_a_layer_that_the_class_token_alone_is_read_from():
    source = source_of(randomise(Tokens(1, "token")))
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
        compile_source(source_of(randomise(Side())), Request(target_layers=("side",)))


def test_two_streams_have_no_common_layer():
    class Streams(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.head = Trunk(), Trunk(), nn.Linear(24, 3)

        def forward(self, x):
            return self.head(torch.cat([self.left(x).mean((2, 3)), self.right(x).mean((2, 3))], 1))

    source = source_of(randomise(Streams()))
    with pytest.raises(ModelError, match=r"no spatial layer .*; of its layers can be explained right, .*left"):
        compile_source(source)
    assert compile_and_check(source, Request(target_layers=("left",))).graph.cams[0].layer == "left"


def test_a_layer_named_twice_is_explained_once():
    graph = compile_source(
        source_of(randomise(Classifier(TAILS["squeeze and excite"]()))), Request(("trunk", "trunk"))
    ).graph
    assert [cam.output for cam in graph.cams] == ["cams"]


def test_what_an_early_layer_costs_is_said(monkeypatch):
    monkeypatch.setattr("xrt.export.compile._NOTED_BYTES", 4 * 12 * 8 * 8)
    source = source_of(randomise(Classifier(TAILS["global max pooling"]())))
    (note,) = compile_source(source).notes
    assert note.startswith("the gradients at trunk (8 × 8) pass through 0 MiB of tensors for each image of a batch: a")
    assert not compile_source(source_of(randomise(Classifier(TAILS["average pooling, linear"]())))).notes
