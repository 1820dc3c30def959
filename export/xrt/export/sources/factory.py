"""Models in PyTorch that others made: a factory in any module, or a name of torchvision, timm or torchxrayvision."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from xrt.export.graphs.limits import check_weights
from xrt.export.sources import torchxrayvision
from xrt.export.sources.described import IMAGENET_MEAN, IMAGENET_STD, describe, input_channels
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
    if description.output is not None:
        raise UsageError("--output chooses among the outputs of an ONNX file; leave it out here")
    if maker is None and description.weights == "pretrained":
        raise UsageError(f"only named models have pretrained weights: give {spec} a --weights FILE, or load them in it")
    module = maker(name, description) if maker else _from_module(collection, name)
    _check_parameters(module, spec)
    module = module.float().eval()
    notes: list[str] = []
    sha256 = None
    if description.weights is not None and description.weights != "pretrained":
        path = Path(description.weights)
        fit = torchxrayvision.fit if torchxrayvision.is_one(module) else fit_state_dict
        left = fit(module, read_state_dict(path), str(path))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if left:
            shown = ", ".join(left[:_LISTED_LEFTOVERS]) + (" …" if len(left) > _LISTED_LEFTOVERS else "")
            notes.append(f"{path.name} has {len(left)} weights that the model has no place for: {shown}")
    elif maker and description.weights is None:
        notes.append(f"{spec} has random weights: give --weights FILE, or --weights pretrained")
    if torchxrayvision.is_one(module):
        return torchxrayvision.source_of(module, spec, sha256, description, tuple(notes))
    defaults = getattr(module, "default_cfg", None)
    defaults = defaults if isinstance(defaults, Mapping) else {}
    channels = input_channels(module)
    size = defaults.get("input_size")
    if size is None:
        size = (channels, 224, 224)
        if description.input_size is None:
            notes.append("images are taken to be 224 x 224: --input-size says otherwise")
    return describe(
        description,
        name=name,
        origin=spec,
        sha256=sha256,
        module=module,
        channels=channels,
        logits=None,
        size=(int(size[1]), int(size[2])),
        mean=defaults.get("mean", IMAGENET_MEAN) if channels == 3 else None,
        std=defaults.get("std", IMAGENET_STD) if channels == 3 else None,
        normalisation_known=bool(maker),
        notes=tuple(notes),
    )


def _from_module(module_name: str, attribute: str) -> torch.nn.Module:
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(f"{module_name} is a path; give the name that Python imports: {dotted}:{attribute}")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        reason = _first_line(error)
        raise UsageError(f"cannot import {module_name!r}: {reason}; run where it can be imported") from error
    except (Exception, SystemExit) as error:  # a user's code raises whatever it likes; a script may even exit
        raise ModelError(
            f"importing {module_name!r} failed: {type(error).__name__}: {_first_line(error)}; correct the module"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UsageError(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, torch.nn.Module):
        if not callable(found):
            raise UsageError(f"{module_name}:{attribute} is neither a module nor a function that makes one")
        try:
            found = found()
        except (Exception, SystemExit) as error:
            raise ModelError(
                f"{module_name}:{attribute}() failed: {type(error).__name__}: {_first_line(error)}; it is called "
                "without arguments"
            ) from error
    if isinstance(found, torch.jit.ScriptModule):
        raise ModelError(f"{module_name}:{attribute} is TorchScript, which torch cannot trace: give its Python module")
    while isinstance(found, (torch.nn.DataParallel, torch._dynamo.OptimizedModule)):
        found = found.module if isinstance(found, torch.nn.DataParallel) else found._orig_mod
    if not isinstance(found, torch.nn.Module):
        raise ModelError(
            f"{module_name}:{attribute}() gave {type(found).__name__}, not a torch.nn.Module: return the model itself"
        )
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
            f"{name} cannot be made: {_first_line(error)}; without a network, save its state dict elsewhere and give "
            "--weights FILE"
        ) from error


def _outputs(description: Description) -> int:
    if description.task == "binary":
        return 1
    return len(description.labels) if description.labels else 1000


def _check_parameters(module: torch.nn.Module, spec: str) -> None:
    """Refuse parameters that hold no numbers, which nothing behind can look at. Raises ModelError."""
    held = dict((*module.named_parameters(), *module.named_buffers()))
    if lazy := [name for name, tensor in held.items() if torch.nn.parameter.is_lazy(tensor)]:
        raise ModelError(f"{spec} has a lazy layer ({lazy[0]}) of no size yet: run it once inside the factory")
    size = sum(tensor.numel() * tensor.element_size() for tensor in held.values())
    check_weights(size, spec)
    if meta := [name for name, tensor in held.items() if tensor.is_meta]:
        raise ModelError(f"{spec} has weights without numbers ({meta[0]} is on the meta device): make them on the CPU")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
