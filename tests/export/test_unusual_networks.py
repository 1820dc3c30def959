"""Networks that are written in unusual ways: each goes through the front door, `open_source`, as a user exports it."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from export.parity import compile_and_check, randomise
from torch import nn

from xrt.export.publish import publish_source
from xrt.export.sources import Description, open_source
from xrt.runtime.backends import cpu_backends
from xrt.runtime.session import open_session


class Plain(nn.Module):
    """Three convolutions, a mean, and a linear head."""

    def __init__(self, outputs: int = 3, channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((channels, 12), (12, 24), (24, 32)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.fc = nn.Linear(32, outputs)

    def forward(self, x):
        return self.fc(self.trunk(x).mean((2, 3)))


class Squeezed(Plain):
    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, x):
        return super().forward(x).squeeze(1)


class Viewed(Squeezed):
    def forward(self, x):
        return Plain.forward(self, x).view(-1)


class GreyRepeat(Plain):
    def __init__(self) -> None:
        super().__init__(channels=3)

    def forward(self, x):
        return super().forward(x.repeat(1, 3, 1, 1))


class GreyExpand(GreyRepeat):
    def forward(self, x):
        return Plain.forward(self, x.expand(-1, 3, -1, -1))


class AttentionFirst(nn.Module):
    """Its first registered convolution is not its first layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Conv2d(2, 1, 7, padding=3)
        self.trunk = Plain(channels=3).trunk
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        a = self.trunk(x)
        gate = torch.cat([a.amax(1, keepdim=True), a.mean(1, keepdim=True)], 1)
        return self.fc((a * torch.sigmoid(self.attention(gate))).mean((2, 3)))


class Masked(Plain):
    """A buffer of infinities, as the mask of causal attention has, and one that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf"), 0.0]))
        self.register_buffer("best_loss", torch.tensor(float("inf")))

    def forward(self, x):
        return super().forward(x).maximum(self.mask)


@pytest.fixture
def opened(monkeypatch):
    """The source of a network, as `MODULE:FACTORY` names it."""

    def of(network: type[nn.Module], **fields):
        torch.manual_seed(2)
        module = types.ModuleType("unusual")
        module.make = network
        monkeypatch.setitem(sys.modules, "unusual", module)
        return open_source("unusual:make", Description(input_size=(64, 64), **fields))

    return of


@pytest.mark.parametrize("network", [Squeezed, Viewed])
def test_one_logit_as_a_vector_is_found_on_every_back_end(opened, network, tmp_path):
    """OpenVINO knows an output by all names of its tensor, and the logit's own is not always the first."""
    bundle = publish_source(opened(network), tmp_path / "one.xrt").bundle
    assert len(bundle.manifest.certificates) == len(cpu_backends())
    for backend in cpu_backends():
        with open_session(bundle, backend=backend.name) as session:
            assert session.certificate.passed


@pytest.mark.parametrize(("network", "channels"), [(Plain, 1), (GreyRepeat, 1), (GreyExpand, 1), (AttentionFirst, 3)])
def test_input_channels_are_those_with_which_it_runs(opened, network, channels):
    source = opened(network)
    assert source.channels == channels
    randomise(source.module, channels=channels)
    compile_and_check(source)


def test_mean_and_std_decide_the_channels(opened):
    """A network that takes any number of channels takes as many as its user has means for."""

    class Any(Plain):
        def forward(self, x):
            return super().forward(x.mean(1, keepdim=True))

    assert opened(Any).channels == 1
    assert opened(Any, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2)).channels == 3


def test_an_infinity_that_is_meant(opened):
    source = opened(Masked)
    randomise(source.module)
    compile_and_check(source)
