"""Describing a model that says little about itself: first the user's description, then defaults, each with a note."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from pydantic import ValidationError

from xrt.export.sources.base import Description, SourceFields
from xrt.export.sources.named_normalisations import IMAGENET, named_normalisation
from xrt.export.sources.stated_preprocessing import NOTHING_STATED, StatedPreprocessing
from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing, Task
from xrt.runtime.errors import ModelError, UsageError
from xrt.train.models import Normalisation

_SIDES = (8, 4096)
_ANNOUNCED = ("interpolation", "antialias", "fit", "equalisation")
"""What is assumed where nobody states it; no border crop and no inversion are what nearly every model has."""
Size = tuple[int, int]


@dataclass(frozen=True)
class ModelFacts:
    """What a model itself says.

    `size` is its own input size, (height, width); `normalisation` its own, or None; `normalisation_is_known` says
    that it needs no warning. `count_logits` gives, for an input size, how many logits there are, and the task if its
    last activation tells; None for what it cannot tell.
    """

    name: str
    origin: str
    sha256: str | None
    channels: int
    size: Size | None
    count_logits: Callable[[Size], tuple[int | None, Task | None]]
    normalisation: Normalisation | None = None
    normalisation_is_known: bool = False
    preprocessing: StatedPreprocessing = NOTHING_STATED
    task: Task | None = None
    notes: tuple[str, ...] = ()


def describe(description: Description, facts: ModelFacts) -> SourceFields:
    """The fields of a source from a description and, where it says nothing, from what the model says.

    Raises UsageError when labels, normalisation or size do not fit the model.
    """
    notes = list(facts.notes)
    size = description.input_size or facts.size
    if size is None:
        raise UsageError(f"{facts.origin} takes images of any size: say which with --input-size")
    assumed: dict[str, str] = {}
    normalisation = _normalisation(description, facts, notes, assumed)
    if not all(_SIDES[0] <= side <= _SIDES[1] for side in size):
        raise UsageError(f"--input-size takes sides of {_SIDES[0]} to {_SIDES[1]} pixels; given {size[0]} × {size[1]}")
    preprocessing = _preprocessing(description, facts, size, assumed)
    logits, output_task = facts.count_logits(size)
    own_task = facts.task or output_task
    if logits is None:
        # The model does not run; the labels give the number, and the tracer reports the fault.
        logits = 1 if description.task == "binary" else len(description.labels or ()) or 1000
    task = _task(description, own_task, logits)
    if description.task is None and own_task is None and task != "binary":
        notes.append(f"the classes are taken to be {task}: --task says otherwise")
    if resize := {name: value for name, value in assumed.items() if name != "normalisation"}:
        notes.append(_announcement(resize))
    return SourceFields(
        name=facts.name,
        task=task,
        classes=tuple(ClassSpec(name=label) for label in _labels(description, task, logits)),
        explained_class=1 if task == "binary" else None,
        preprocessing=preprocessing,
        normalisation=normalisation,
        origin=facts.origin,
        sha256=facts.sha256,
        weights=description.weights,
        notes=tuple(notes),
        assumed=assumed,
        population=description.population,
    )


def _preprocessing(description: Description, facts: ModelFacts, size: Size, assumed: dict[str, str]) -> Preprocessing:
    """What the user states, else what the model carries, else defaults, which are entered in `assumed`."""
    statement = description.preprocessing.over(facts.preprocessing)
    stated = statement.stated()
    if statement.interpolation in ("area", "nearest"):
        stated.setdefault("antialias", True)  # the one is by definition, the other has no filter to widen
    if description.preprocessing.crop is None and statement.fit != "crop":
        stated.pop("crop", None)  # the library's, which the user's own fit replaces
    try:
        preprocessing = Preprocessing(height=size[0], width=size[1], **stated)
    except ValidationError as error:
        raise UsageError(f"the preprocessing cannot be so: {_reason(error)}") from error
    assumed.update((name, str(getattr(preprocessing, name)).lower()) for name in _ANNOUNCED if name not in stated)
    return preprocessing


def _reason(error: ValidationError) -> str:
    """The first fault that pydantic found: the option, and what it must be."""
    fault = error.errors()[0]
    option = "".join(f"--{str(name).replace('_', '-')}: " for name in fault["loc"])
    return option + fault["msg"].removeprefix("Value error, ")


def _announcement(assumed: dict[str, str]) -> str:
    values = ", ".join(f"{name} {value}" for name, value in assumed.items())
    options = ", ".join(f"--{name}" for name in assumed)
    return (
        f"how images were prepared for training is assumed: {values}; a model that was trained otherwise decides "
        f"otherwise, and nothing in the graph shows it: state it with {options}"
    )


def _normalisation(
    description: Description, facts: ModelFacts, notes: list[str], assumed: dict[str, str]
) -> Normalisation:
    """The normalisation of the description, the model's own, or a default, which is noted."""
    channels = facts.channels
    if (description.mean is None) != (description.std is None):
        raise UsageError("--mean and --std belong together: give both")
    if description.normalisation is not None:
        if description.mean is not None:
            raise UsageError("--normalisation says what --mean and --std are: give it, or these two")
        named = named_normalisation(description.normalisation)
        mean, std = named.mean, named.std
    elif description.mean is not None and description.std is not None:
        # One value is meant for every channel.
        mean, std = (v * channels if len(v) == 1 else v for v in (description.mean, description.std))
    elif facts.normalisation is not None:
        mean, std = facts.normalisation.mean, facts.normalisation.std
    else:
        mean, std = (IMAGENET.mean, IMAGENET.std) if channels == 3 else ((0.0,) * channels, (1.0,) * channels)
    if description.channel_order == "bgr":
        if channels != 3:
            raise UsageError(f"--channel-order is for models of three channels; this one takes {channels}")
        mean, std = mean[::-1], std[::-1]
    stated = description.mean is not None or description.normalisation is not None
    if not stated and not facts.normalisation_is_known:
        assumed["normalisation"] = f"mean {_numbers(mean)}, std {_numbers(std)}"
        notes.append(
            f"normalisation is taken to be mean {_numbers(mean)}, std {_numbers(std)} (pixels scaled to 0..1): if the "
            "model was trained with another, every result is wrong; give --mean and --std"
        )
    if len(mean) != channels or len(std) != channels:
        raise UsageError(f"the model takes {channels} channels; --mean has {len(mean)} values, --std {len(std)}")
    if not all(isfinite(v) for v in (*mean, *std)) or any(s <= 0 for s in std):
        raise UsageError(
            f"--mean takes finite numbers, --std positive ones; given {_numbers(mean)} and {_numbers(std)}"
        )
    if any(abs(v) > 1 for v in description.mean or ()):
        notes.append(f"--mean {_numbers(mean)} is in units of full scale; if it was meant for 0..255, divide by 255")
    return Normalisation(mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def run_once(module: torch.nn.Module, channels: int, size: Size) -> tuple[int | None, Task | None]:
    """How many logits a module gives, and the task if it gives probabilities; None where it does not run.

    The tracer reports why it does not run. Raises ModelError when it gives anything but one tensor.
    """
    output = output_of(module, channels, size)
    if output is None:
        return None, None
    if not isinstance(output, torch.Tensor):
        keys = f" ({', '.join(map(str, output))})" if isinstance(output, Mapping) else ""
        raise ModelError(
            f"{type(module).__name__} gives a {type(output).__name__}{keys}, not one tensor: wrap it in a module that "
            "returns its logits alone"
        )
    if output.ndim == 0:
        return None, None
    rows = output.flatten(1) if output.ndim > 1 else output[:, None]
    sum_to_one = bool((rows >= 0).all()) and torch.allclose(rows.sum(1), torch.ones(len(rows)), atol=1e-4)
    return rows.shape[1], "multiclass" if sum_to_one and rows.shape[1] > 1 else None


def output_of(module: torch.nn.Module, channels: int, size: Size) -> Any:
    """What a module gives for three images of noise; None where it does not run."""
    images = torch.randn(3, channels, *size, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            return module.eval()(images)
    except Exception:
        return None


def input_channels(module: torch.nn.Module, size: Size, first: tuple[int, ...] = ()) -> int:
    """The number of input channels: the first that the module runs with of `first`, 1, its first convolution's, 3.

    One comes before: a module that runs with it repeats grey itself, whatever its first convolution takes. The first
    registered convolution need not be the first layer. Where the module runs with none of them, it is the first
    convolution's, and the tracer reports the fault.
    """
    own = next((layer.in_channels for layer in module.modules() if isinstance(layer, torch.nn.Conv2d)), 3)
    candidates = dict.fromkeys((*first, 1, own, 3))
    return next((channels for channels in candidates if _runs(module, channels, size)), own)


def _runs(module: torch.nn.Module, channels: int, size: Size) -> bool:
    try:
        with torch.no_grad():
            module.eval()(torch.zeros(2, channels, *size))
    except Exception:
        return False
    return True


def _task(description: Description, task: Task | None, logits: int) -> Task:
    if logits == 1:
        if description.task not in (None, "binary"):
            raise UsageError(f"one logit is a binary model, not {description.task}")
        return "binary"
    if description.task == "binary":
        raise UsageError(f"a binary model has one logit, this one has {logits}: its task is multilabel or multiclass")
    return description.task or task or ("multiclass" if logits >= 1000 else "multilabel")


def _labels(description: Description, task: Task, logits: int) -> tuple[str, ...]:
    if description.labels is None:
        return ("negative", "positive") if task == "binary" else tuple(f"class {i}" for i in range(logits))
    count = 2 if task == "binary" else logits
    if len(description.labels) != count:
        hint = " (a binary model names both its classes, the negative one first)" if task == "binary" else ""
        raise UsageError(f"{len(description.labels)} --labels for {count} classes{hint}")
    if not all(description.labels):
        raise UsageError("one of the --labels is empty: give every class a name")
    if duplicates := [label for i, label in enumerate(description.labels) if label in description.labels[:i]]:
        raise UsageError(f"two --labels are the same ({duplicates[0]}): give every class a name of its own")
    return description.labels


def _numbers(values: tuple[float, ...]) -> str:
    return ",".join(f"{v:g}" for v in values)
