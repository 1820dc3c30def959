"""Published architectures, explained at the expected layer without its being named, against autograd there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from export.expected_layers import ONE_A_FAMILY, TIMM, TOO_LARGE, TORCHVISION
from export.parity import COLOUR, VacuousError, compile_and_check, randomise, source_of

from xrt.export.sources.torch_source import trace
from xrt.runtime.errors import ModelError


def explained_layer(make: Callable[[], torch.nn.Module], size: int = 224) -> str:
    """The layer explained by default, compared with autograd; weights that prove nothing are drawn again, twice."""
    for seed in range(3):
        torch.manual_seed(seed)
        source = source_of(randomise(make(), size, channels=3), size, channels=3, classes=5)
        try:
            return compile_and_check(source).graph.cams[0].layer
        except VacuousError as error:
            vacuous = error
    raise vacuous


def torchvision_model(name: str) -> torch.nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=5)


LONG = {"alexnet", "convnext_tiny", "googlenet", "inception_v3", "resnext50_32x4d", "swin_t", "vit_b_32"}
"""Of these, each takes more than ten seconds of a core."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in ONE_A_FAMILY]
)
def test_one_of_each_torchvision_family(name):
    assert explained_layer(partial(torchvision_model, name)) == TORCHVISION[name]


def test_every_torchvision_classifier_is_in_the_table():
    assert set(torchvision.models.list_models(module=torchvision.models)) == {*TORCHVISION, *TOO_LARGE}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(TORCHVISION) - set(ONE_A_FAMILY)))
def test_every_torchvision_classifier(name):
    assert explained_layer(partial(torchvision_model, name)) == TORCHVISION[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOO_LARGE))
def test_weights_over_two_gibibytes_are_refused(name):
    with pytest.raises(ModelError, match=r"the weights of \w+ take 2\.[34] GiB; one ONNX file holds 2 GiB"):
        trace(torchvision_model(name), COLOUR, 224, 224)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TIMM))
def test_timm_families(name):
    timm = pytest.importorskip("timm")
    size = timm.get_pretrained_cfg(name).input_size[-1]
    assert explained_layer(partial(timm.create_model, name, num_classes=5), size) == TIMM[name]
