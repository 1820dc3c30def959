"""Networks that give more than one tensor, as libraries and papers write them."""

from __future__ import annotations

import copy
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from xrt.export.compile import Request, compile_source
from xrt.export.sources import Description, open_source
from xrt.runtime.errors import ModelError, UsageError

Heads = namedtuple("Heads", ["main", "aux"])


@dataclass
class Output:
    loss: torch.Tensor | None
    logits: torch.Tensor
    hidden_states: tuple[torch.Tensor, ...]


class Network(nn.Module):
    """A trunk and two heads; each test says what is returned of them."""

    def __init__(self, give):
        super().__init__()
        torch.manual_seed(3)
        self.trunk = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.main, self.aux = nn.Linear(8, 3), nn.Linear(8, 3)
        self.give = give

    def forward(self, x):
        maps = self.trunk(x)
        features = maps.mean((2, 3))
        return self.give(self.main(features), self.aux(features), maps)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """The source of a network that returns what `give` makes of main head, auxiliary head and feature maps."""

    def make(give, **options):
        network = Network(give)
        module = type("made", (), {"network": staticmethod(lambda: network)})
        monkeypatch.setitem(__import__("sys").modules, "made_network", module)
        description = Description(input_size=(32, 32), mean=(0.5,), std=(0.25,), task="multilabel", **options)
        return open_source("made_network:network", description), copy.deepcopy(network)

    return make


def head_of(source, network):
    """Which head the source's logits are, by their numbers; the compiled graph agrees with them."""
    x = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        features = network.trunk(x).mean((2, 3))
        given = source.module(x)
        heads = [name for name in ("main", "aux") if torch.equal(given, getattr(network, name)(features))]
    images = np.random.default_rng(0).integers(0, 256, size=(2, 1, 32, 32), dtype=np.uint8)
    model = compile_source(source, Request(("trunk.2",)))
    assert model.graph.cams[0].layer == "trunk.2"
    outputs = model.reference.outputs(images)
    assert outputs.logits.shape == (2, 3)
    assert outputs.cams["cams"].any()
    return heads[0]


TAKEN = {
    "logits of a dictionary": (lambda m, a, f: {"aux": a, "logits": m, "features": f}, "main", "'logits' is taken"),
    "one of a dictionary": (lambda m, a, f: {"features": f, "out": m}, "main", "'out' is taken"),
    "a dictionary of one": (lambda m, a, f: {"out": m}, "main", None),
    "a model output": (lambda m, a, f: Output(None, m, (f, f)), "main", "'logits' is taken"),
    "a tuple": (lambda m, a, f: (m, a), "main", "'0' is taken"),
    "a tuple of maps first": (lambda m, a, f: (f, m), "main", "'1' is taken"),
    "a list": (lambda m, a, f: [m, [a, f]], "main", "'0' is taken"),
    "one inside another": (lambda m, a, f: ({"logits": m}, f), "main", "'0.logits' is taken"),
}


@pytest.mark.parametrize("case", TAKEN)
def test_the_logits_of_several_outputs_are_taken_and_announced(source, case):
    give, head, note = TAKEN[case]
    made, network = source(give)
    assert head_of(made, network) == head
    announced = [text for text in made.notes if "is taken for the logits" in text]
    assert [note in text for text in announced] == ([True] if note else [])


NAMED = {
    "aux": lambda m, a, f: {"logits": m, "aux": a},
    "1": lambda m, a, f: (m, a),
    "heads.aux": lambda m, a, f: {"logits": m, "heads": Heads(m, a)},
}


@pytest.mark.parametrize("name", NAMED)
def test_output_names_another(source, name):
    made, network = source(NAMED[name], output=name)
    assert head_of(made, network) == "aux"
    assert made.output == name


def test_what_could_be_either_is_asked_for(source):
    with pytest.raises(ModelError, match=r"aux \[3, 3\]: say which are the logits with --output main\|aux"):
        source(lambda m, a, f: Heads(m, a))
    with pytest.raises(UsageError, match=r"Network has no output 'side': it gives main \[3, 3\], aux \[3, 3\]"):
        source(lambda m, a, f: Heads(m, a), output="side")
    with pytest.raises(ModelError, match=r"features \[3, 8, 8, 8\]: none is \[n, classes\]"):
        source(lambda m, a, f: {"features": f})
    with pytest.raises(UsageError, match="gives one tensor: leave out --output"):
        source(lambda m, a, f: m, output="logits")


def test_names_and_copies_stay(source):
    made, network = source(lambda m, a, f: (m, a))
    assert type(made.module).__name__ == "Network"
    assert made.module.state_dict().keys() == network.state_dict().keys()
    twin = copy.deepcopy(made.module)
    nn.init.zeros_(twin.main.weight)
    x = torch.rand(2, 1, 32, 32)
    assert not torch.equal(twin(x), made.module(x))
