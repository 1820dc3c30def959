"""Models in PyTorch that others made: a factory in any module, or a name of torchvision, timm or torchxrayvision."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from xrt.export.sources import torchxrayvision
from xrt.export.sources.described import IMAGENET_MEAN, IMAGENET_STD, describe
from xrt.export.sources.source import Description, Source
from xrt.runtime.errors import MissingDependency, ModelError, UsageError
from xrt.train.models.state_dict import fit_state_dict, read_state_dict

_LISTED_LEFTOVERS = 8


def from_factory(spec: str, description: Description) -> Source:
    """A model from `MODULE:FACTORY`, `torchvision:NAME`, `timm:NAME` or `torchxrayvision:NAME`.

    Raises UsageError when the module or name is not there, ModelError when the factory fails, gives no module, or
    the weights do not fit.
    """
    collection, _, name = spec.partition(":")
    makers: dict[str, Callable[[str, Description], torch.nn.Module]] = {
        "torchvision": _torchvision, "timm": _timm, "torchxrayvision": torchxrayvision.make,
    }  # fmt: skip
    maker = makers.get(collection)
    module = (maker(name, description) if maker else _from_module(collection, name)).eval()
    notes: list[str] = []
    sha256 = None
    if description.weights and description.weights != "pretrained":
        path = Path(description.weights)
        left = fit_state_dict(module, read_state_dict(path), str(path))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if left:
            shown = ", ".join(left[:_LISTED_LEFTOVERS]) + (" …" if len(left) > _LISTED_LEFTOVERS else "")
            notes.append(f"{path.name} has {len(left)} weights that the model has no place for: {shown}")
    elif maker and description.weights is None:
        notes.append(f"{spec} has random weights: give --weights FILE, or --weights pretrained")
    if torchxrayvision.is_one(module):
        return torchxrayvision.source_of(module, spec, sha256, description, tuple(notes))
    defaults = getattr(module, "default_cfg", None) or {}
    channels = _channels(module)
    size = defaults.get("input_size", (channels, 224, 224))[1:]
    return describe(
        description,
        name=name,
        origin=spec,
        sha256=sha256,
        module=module,
        channels=channels,
        logits=None,
        size=(int(size[0]), int(size[1])),
        mean=defaults.get("mean", IMAGENET_MEAN) if channels == 3 else None,
        std=defaults.get("std", IMAGENET_STD) if channels == 3 else None,
        normalisation_known=bool(maker),
        notes=tuple(notes),
    )


def _from_module(module_name: str, attribute: str) -> torch.nn.Module:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {error}; run where it can be imported") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, torch.nn.Module):
        if not callable(found):
            raise UsageError(f"{module_name}:{attribute} is neither a module nor a function that makes one")
        try:
            found = found()
        except Exception as error:  # a user's code raises whatever it likes
            raise ModelError(f"{module_name}:{attribute}() failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, torch.nn.Module):
        raise ModelError(f"{module_name}:{attribute}() gave {type(found).__name__}, not a torch.nn.Module")
    return found


def _torchvision(name: str, description: Description) -> torch.nn.Module:
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise UsageError(f"torchvision has no classifier {name!r}: see torchvision.models.list_models()")
    pretrained = description.weights == "pretrained"
    return _build(
        lambda options: torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **options),
        {} if pretrained else {"num_classes": _outputs(description)},
        name,
    )


def _timm(name: str, description: Description) -> torch.nn.Module:
    try:
        import timm
    except ImportError as error:
        raise MissingDependency("timm is not installed: pip install timm") from error
    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}: see timm.list_models()")
    pretrained = description.weights == "pretrained"
    channels = {} if description.mean is None else {"in_chans": len(description.mean)}
    outputs = {} if pretrained and description.labels is None else {"num_classes": _outputs(description)}
    return _build(
        lambda options: timm.create_model(name, pretrained=pretrained, **options), {**channels, **outputs}, name
    )


def _build(make: Callable[[dict[str, Any]], torch.nn.Module], options: dict[str, Any], name: str) -> torch.nn.Module:
    try:
        return make(options)
    except Exception as error:  # a failed download raises a different error in every library
        raise ModelError(
            f"{name} cannot be made: {str(error).splitlines()[0] if str(error) else type(error).__name__}; without a "
            "network, save its state dict elsewhere and give --weights FILE"
        ) from error


def _outputs(description: Description) -> int:
    if description.task == "binary":
        return 1
    return len(description.labels) if description.labels else 1000


def _channels(module: torch.nn.Module) -> int:
    """The number of input channels: that of the first convolution."""
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d):
            return layer.in_channels
    return 3
