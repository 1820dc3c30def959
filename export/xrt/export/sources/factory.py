"""PyTorch models from outside xrt: a factory in any module, or a name of torchvision, timm or torchxrayvision."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from xrt.export.ir.limits import check_weights
from xrt.export.sources import torchxrayvision
from xrt.export.sources.base import Description
from xrt.export.sources.description import ModelFacts, describe, input_channels, output_of, run_once
from xrt.export.sources.named_normalisations import IMAGENET
from xrt.export.sources.stated_preprocessing import (
    NOTHING_STATED,
    PreprocessorConfig,
    StatedPreprocessing,
    normalisation_of,
    of_compose,
    of_timm,
    of_torchvision,
)
from xrt.export.sources.torch_outputs import give_logits_alone
from xrt.export.sources.torch_source import TorchSource
from xrt.export.sources.torch_weights import LoadedWeights, load_weights
from xrt.runtime._io import first_line
from xrt.runtime.errors import MissingDependency, ModelError, UsageError
from xrt.train.models import Normalisation


def from_factory(spec: str, description: Description) -> TorchSource:
    """A model from `MODULE:FACTORY`, `torchvision:NAME`, `timm:NAME` or `torchxrayvision:NAME`.

    Raises UsageError when the module or name does not exist, ModelError when the factory fails, gives no module, or
    the weights do not fit.
    """
    collection, _, name = spec.partition(":")
    makers: dict[str, Callable[[str, Description], torch.nn.Module]] = {
        "torchvision": _torchvision, "timm": _timm, "torchxrayvision": torchxrayvision.make,
    }  # fmt: skip
    maker = makers.get(collection)
    if maker is None and description.weights == "pretrained":
        raise UsageError(f"only named models have pretrained weights: give {spec} a --weights FILE, or load them in it")
    module = maker(name, description) if maker else _from_module(collection, name)
    _check_parameters(module, spec)
    module = module.float().eval()
    notes: list[str] = []
    loaded: LoadedWeights | None = None
    if description.weights is not None and description.weights != "pretrained":
        loaded = load_weights(module, description.weights)
        notes.extend(loaded.notes)
        if description.labels is None and loaded.labels is not None:
            description = replace(description, labels=loaded.labels)
            notes.append("the labels are those of the config.json beside the weights: " + ", ".join(loaded.labels))
    elif maker and description.weights is None:
        notes.append(f"{spec} has random weights: give --weights FILE, or --weights pretrained")
    sha256 = loaded.sha256 if loaded else None
    if torchxrayvision.is_torchxrayvision(module):
        return torchxrayvision.source_of(module, spec, sha256, description, tuple(notes))
    defaults = getattr(module, "default_cfg", None)
    defaults = defaults if isinstance(defaults, Mapping) else {}
    pipeline = (None if maker else _pipeline(collection)) or (loaded.config if loaded else None)
    size = pipeline.size if pipeline else None
    own = defaults.get("input_size")
    if size is None and own is not None:
        size = int(own[1]), int(own[2])
    if size is None:
        size = (224, 224)
        if description.input_size is None:
            notes.append("images are taken to be 224 x 224: --input-size says otherwise")
    channels = _channels(module, description, own, description.input_size or size)
    if (output := output_of(module, channels, description.input_size or size)) is not None and (
        note := give_logits_alone(module, output, description.output)
    ):
        notes.append(note)
    normalisation = _default_normalisation(defaults) if channels == 3 else None
    if pipeline is not None:
        normalisation = normalisation_of(pipeline, channels)
    facts = ModelFacts(
        name=name,
        origin=spec,
        sha256=sha256,
        channels=channels,
        size=size,
        count_logits=lambda sides: run_once(module, channels, sides),
        normalisation=normalisation,
        normalisation_is_known=(bool(maker) or pipeline is not None) and (normalisation is not None or channels != 3),
        preprocessing=pipeline.preprocessing if pipeline else _carried(collection, name, description, defaults),
        notes=tuple(notes),
    )
    own_function = None if maker or pipeline else _own_function(collection)
    return TorchSource(
        module=module, preprocess=own_function, output=description.output, **describe(description, facts)
    )


def _own_function(module_name: str) -> Callable[[Any], Any] | None:
    """The function `preprocess` in the module of a factory, which makes the network's input of a Pillow image."""
    candidate = getattr(sys.modules.get(module_name), "preprocess", None)
    return candidate if callable(candidate) and type(candidate).__name__ != "Compose" else None


def _channels(module: torch.nn.Module, description: Description, own: Any, size: tuple[int, int]) -> int:
    """As many as `--mean` has values, else as the library says, else others: the first with which the module runs."""
    stated = (len(description.mean),) if description.mean is not None and len(description.mean) > 1 else ()
    carried = () if own is None else (int(own[0]),)
    return input_channels(module, size, first=(*stated, *carried))


def _pipeline(module_name: str) -> PreprocessorConfig | None:
    """The torchvision `Compose` in the module of a factory, by one of the usual names; None without one."""
    module = sys.modules.get(module_name)
    for name in ("preprocess", "transform", "transforms", "eval_transform"):
        candidate = getattr(module, name, None)
        if type(candidate).__name__ == "Compose" and hasattr(candidate, "transforms"):
            return of_compose(candidate, f"{module_name}.{name}")
    return None


def _carried(collection: str, name: str, description: Description, defaults: Mapping[str, Any]) -> StatedPreprocessing:
    """The preprocessing that the model's library states for it."""
    if "crop_pct" in defaults:
        return of_timm(defaults)
    if collection == "torchvision" and description.weights == "pretrained":
        import torchvision

        return of_torchvision(torchvision.models.get_model_weights(name).DEFAULT.transforms())  # type: ignore[attr-defined]
    return NOTHING_STATED


def _default_normalisation(defaults: Mapping[str, Any]) -> Normalisation | None:
    """That of timm's `default_cfg`, ImageNet's where it says nothing; None where its values are not valid."""
    try:
        return Normalisation(mean=defaults.get("mean", IMAGENET.mean), std=defaults.get("std", IMAGENET.std))
    except ValueError:
        return None


def _from_module(module_name: str, attribute: str) -> torch.nn.Module:
    if module_name.endswith(".py") or "/" in module_name:
        dotted_name = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(f"{module_name} is a path; give the name that Python imports: {dotted_name}:{attribute}")
    with _importable(Path.cwd()):
        part = _import(module_name)
        for name in attribute.split("."):
            if not hasattr(part, name):
                raise UsageError(f"module {module_name!r} has no {attribute!r}")
            part = getattr(part, name)
        model = part if isinstance(part, torch.nn.Module) else _call(part, f"{module_name}:{attribute}")
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError(f"{module_name}:{attribute} is TorchScript, which torch cannot trace: give its Python module")
    while isinstance(model, (torch.nn.DataParallel, torch._dynamo.OptimizedModule)):
        model = model.module if isinstance(model, torch.nn.DataParallel) else model._orig_mod
    if not isinstance(model, torch.nn.Module):
        raise ModelError(
            f"{module_name}:{attribute}() gave {type(model).__name__}, not a torch.nn.Module: return the model itself"
        )
    return model


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let modules in `folder` be imported for a while, as by `python -m`."""
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have removed it
            sys.path.remove(entry)


def _import(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise UsageError(f"cannot import {module_name!r}: {first_line(error)}; run where it can be imported") from error
    except (Exception, SystemExit) as error:  # a user's code can raise anything; a script may even exit
        raise ModelError(
            f"importing {module_name!r} failed: {type(error).__name__}: {first_line(error)}; correct the module"
        ) from error


def _call(factory: Any, spec: str) -> Any:
    if not callable(factory):
        raise UsageError(f"{spec} is neither a module nor a function that makes one")
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"{spec}() failed: {type(error).__name__}: {first_line(error)}; it is called without arguments"
        ) from error


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
            f"{name} cannot be made: {first_line(error)}; without a network, save its state dict elsewhere and give "
            "--weights FILE"
        ) from error


def _outputs(description: Description) -> int:
    if description.task == "binary":
        return 1
    return len(description.labels) if description.labels else 1000


def _check_parameters(module: torch.nn.Module, spec: str) -> None:
    """Refuse parameters without numbers, which no later step can read. Raises ModelError."""
    tensors = dict((*module.named_parameters(), *module.named_buffers()))
    if lazy := [name for name, tensor in tensors.items() if torch.nn.parameter.is_lazy(tensor)]:
        raise ModelError(f"{spec} has a lazy layer ({lazy[0]}) of no size yet: run it once inside the factory")
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    check_weights(size, spec)
    if meta := [name for name, tensor in tensors.items() if tensor.is_meta]:
        raise ModelError(f"{spec} has weights without numbers ({meta[0]} is on the meta device): make them on the CPU")
