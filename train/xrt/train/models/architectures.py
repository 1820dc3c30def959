"""The table of architectures. A torchvision model is one line; `timm:NAME` needs none."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torchvision
from torch import Tensor, nn

from xrt.runtime.errors import ModelError
from xrt.train.models.assembled import assemble
from xrt.train.models.compact import Compact
from xrt.train.models.small_cnn import small_cnn_trunk
from xrt.train.models.spec import HeadSpec, ModelSpec
from xrt.train.models.timm_models import timm_model, timm_state, timm_trunk
from xrt.train.models.weights import torchvision_state

TIMM = "timm:"
Size = tuple[int, int]


@dataclass(frozen=True)
class Architecture:
    """How to build a model with its own head, and the module paths in it that others need.

    `build` makes a model of so many logits for images of a size. `stem` is the first convolution, `head` the last
    linear layer, `last_block` what two-phase fine-tuning unfreezes first. `trunk` takes from the model what makes its
    last map; None where it has no such map. `pretrained` gets the library's ImageNet weights; None where there are
    none.
    """

    build: Callable[[ModelSpec, int, Size | None], nn.Module]
    stem: str
    head: str
    last_block: tuple[str, ...] = ()
    trunk: Callable[[nn.Module], nn.Module] | None = None
    pretrained: Callable[[], dict[str, Tensor]] | None = None


def architecture_of(spec: ModelSpec) -> Architecture:
    """The entry of the table, or one for a timm model. Raises ModelError for an unknown name."""
    if spec.architecture.startswith(TIMM):
        name = spec.architecture.removeprefix(TIMM)
        stem, head = timm_model(name).layers
        return Architecture(
            lambda spec, outputs, size: timm_model(name).build(spec.channels, outputs, size),
            stem,
            head,
            trunk=timm_trunk,
            pretrained=partial(timm_state, name),
        )
    if spec.architecture not in ARCHITECTURES:
        names = f"{', '.join(ARCHITECTURES)}, and {TIMM}NAME for a model of timm"
        raise ModelError(f"unknown architecture {spec.architecture!r}; known: {names}")
    return ARCHITECTURES[spec.architecture]


def _compact(spec: ModelSpec, outputs: int, _size: Size | None) -> nn.Module:
    return Compact(spec.compact, spec.channels, outputs, spec.dropout)


def _small_cnn(spec: ModelSpec, outputs: int, size: Size | None) -> nn.Module:
    head = HeadSpec(kind="mlp", pool=1, hidden=spec.small_cnn.hidden)
    image = (spec.channels, *require_size(size, "small_cnn"))
    return assemble(small_cnn_trunk(spec.small_cnn, spec.channels), head, image, outputs, spec.dropout)


def require_size(size: Size | None, what: str) -> Size:
    """The size, or ModelError."""
    if size is None:
        raise ModelError(f"{what} depends on the size of the images; build the model for a size (height, width)")
    return size


def _torchvision(name: str, _spec: ModelSpec, outputs: int, _size: Size | None) -> nn.Module:
    return torchvision.models.get_model(name, weights=None, num_classes=outputs)


def _vision_transformer(name: str, _spec: ModelSpec, outputs: int, size: Size | None) -> nn.Module:
    height, width = size or (224, 224)
    if height != width or height % 16:
        raise ModelError(
            f"{name} takes square images whose side is a multiple of 16, not {height} x {width}; change"
            " preprocessing.height and preprocessing.width"
        )
    return torchvision.models.get_model(name, weights=None, num_classes=outputs, image_size=height)


def _named(**parts: Any) -> nn.Sequential:
    return nn.Sequential(OrderedDict(parts))


def _resnet_trunk(model: nn.Module) -> nn.Module:
    return _named(**{name: part for name, part in model.named_children() if name not in ("avgpool", "fc")})


def _features_trunk(model: nn.Module) -> nn.Module:
    return _named(features=model.get_submodule("features"))


def _densenet_trunk(model: nn.Module) -> nn.Module:
    # DenseNet's last ReLU is in its forward function, not among its features.
    return _named(features=model.get_submodule("features"), relu=nn.ReLU())


def _of(
    name: str,
    stem: str,
    head: str,
    last_block: tuple[str, ...],
    trunk: Callable[[nn.Module], nn.Module] | None,
    build: Callable[..., nn.Module] = _torchvision,
) -> Architecture:
    return Architecture(partial(build, name), stem, head, last_block, trunk, partial(torchvision_state, name))


def _resnet(name: str) -> Architecture:
    return _of(name, "conv1", "fc", ("layer4",), _resnet_trunk)


def _densenet(name: str) -> Architecture:
    last = ("features.denseblock4", "features.norm5")
    return _of(name, "features.conv0", "classifier", last, _densenet_trunk)


def _efficientnet(name: str) -> Architecture:
    return _of(name, "features.0.0", "classifier.1", ("features.7", "features.8"), _features_trunk)


ARCHITECTURES: dict[str, Architecture] = {
    "compact": Architecture(_compact, "features.0.0", "classifier", trunk=_features_trunk),
    "small_cnn": Architecture(_small_cnn, "trunk.0", "head.classifier", ("trunk.6",)),
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "densenet121": _densenet("densenet121"),
    "densenet201": _densenet("densenet201"),
    "efficientnet_b0": _efficientnet("efficientnet_b0"),
    "efficientnet_b1": _efficientnet("efficientnet_b1"),
    # Its fifth and last block of convolutions.
    "vgg16": _of("vgg16", "features.0", "classifier.6", ("features.24", "features.26", "features.28"), _features_trunk),
    "vit_b_16": _of(
        "vit_b_16",
        "conv_proj",
        "heads.head",
        ("encoder.layers.encoder_layer_11", "encoder.ln"),
        None,
        build=_vision_transformer,
    ),
}
