"""`build_model`: one table of architectures, any number of outputs, grey or repeated input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn

from xrt.runtime.errors import ModelError
from xrt.train.models.compact import Compact
from xrt.train.models.spec import ModelSpec
from xrt.train.models.weights import load_starting_weights


@dataclass(frozen=True)
class Architecture:
    """How to build a model of so many logits, and the module paths of its first convolution and its head.

    `pretrained` is the name that torchvision has ImageNet weights under, or None.
    """

    build: Callable[[ModelSpec, int], nn.Module]
    stem: str
    head: str
    pretrained: str | None = None


def build_model(spec: ModelSpec, classes: int) -> nn.Module:
    """A model that takes normalised images float32 [n, spec.channels, H, W] and gives logits [n, classes].

    `classes` counts logits: 1 for a binary model. The model is in training mode; its random weights depend on
    torch's global seed. Raises ModelError for an unknown architecture and for weights that cannot be had or
    do not fit.
    """
    if spec.architecture not in ARCHITECTURES:
        raise ModelError(f"unknown architecture {spec.architecture!r}; known: {', '.join(ARCHITECTURES)}")
    if classes < 1:
        raise ModelError(f"a model needs at least one logit, not {classes}")
    architecture = ARCHITECTURES[spec.architecture]
    model = architecture.build(spec, classes)
    if spec.weights is not None:
        load_starting_weights(model, spec.weights, architecture.pretrained, architecture.stem, architecture.head)
    if spec.dropout and architecture.pretrained is not None:
        # After the weights, whose names know nothing of this layer.
        _replace(model, architecture.head, lambda head: nn.Sequential(nn.Dropout(spec.dropout), head))
    return model


@torch.no_grad()
def start_at_prevalence(model: nn.Module, spec: ModelSpec, targets: Float[Tensor, "n logits"]) -> None:
    """Set the head's biases to the logits of the classes' prevalence in `targets`, kept within 0.1 % and 99.9 %.

    Rare findings then need not be unlearned first (Lin et al., arXiv 1708.02002, section 4.1).
    """
    head = model.get_submodule(ARCHITECTURES[spec.architecture].head)
    bias = next(parameter for name, parameter in head.named_parameters() if name.endswith("bias"))
    bias.copy_(targets.mean(dim=0).clamp(1e-3, 1 - 1e-3).logit())


def _compact(spec: ModelSpec, outputs: int) -> nn.Module:
    return Compact(spec.compact, spec.channels, outputs, spec.dropout)


def _torchvision(name: str, stem: str, spec: ModelSpec, outputs: int) -> nn.Module:
    model = torchvision.models.get_model(name, weights=None, num_classes=outputs)
    if spec.channels != 3:
        _replace(model, stem, partial(_with_input_channels, channels=spec.channels))
    return model


def _with_input_channels(convolution: nn.Module, channels: int) -> nn.Module:
    assert isinstance(convolution, nn.Conv2d)
    new = nn.Conv2d(
        channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        bias=convolution.bias is not None,
    )
    with torch.no_grad():
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new


def _replace(model: nn.Module, path: str, change: Callable[[nn.Module], nn.Module]) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, change(model.get_submodule(path)))


def _of_torchvision(name: str, stem: str, head: str) -> Architecture:
    return Architecture(partial(_torchvision, name, stem), stem, head, pretrained=name)


ARCHITECTURES: dict[str, Architecture] = {
    "compact": Architecture(_compact, "features.0.0", "classifier"),
    "resnet18": _of_torchvision("resnet18", "conv1", "fc"),
    "resnet50": _of_torchvision("resnet50", "conv1", "fc"),
    "densenet121": _of_torchvision("densenet121", "features.conv0", "classifier"),
    "efficientnet_b0": _of_torchvision("efficientnet_b0", "features.0.0", "classifier.1"),
}
