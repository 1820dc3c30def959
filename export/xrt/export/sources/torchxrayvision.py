"""Models of torchxrayvision: its scale of ±1024, its operating thresholds, its classes without a name.

The library calibrates after the sigmoid: with threshold t, a probability p becomes p / 2t below it and
1 - (1 - p) / 2(1 - t) above, so that 0.5 is the operating point. A heatmap explains the logit, so the calibration is
removed, and p ≥ t decides as the library does. A class whose threshold is NaN always scores 0.5 there: it is kept
without a threshold, and is never a finding. A class without a name is left out.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from math import isnan

import torch
from jaxtyping import Float

from xrt.export.sources.base import Description
from xrt.export.sources.description import ModelFacts, describe, input_channels, run_once
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.export.sources.torch_source import TorchSource
from xrt.runtime._io import first_line
from xrt.runtime.errors import MissingDependency, ModelError, UsageError
from xrt.train.models import Normalisation
from xrt.train.models.state_dict import fit_state_dict

# Its `normalize` maps 0..maxval to -1024..1024: (x - 0.5) / (1 / 2048) for x in 0..1.
_MEAN, _STD = (0.5,), (1 / 2048,)
_THRESHOLDS = "op_threshs"


class Logits(torch.nn.Module):
    """A model of the library without its calibration, giving all its logits, or those at `indices`."""

    def __init__(self, model: torch.nn.Module, indices: list[int] | None = None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        # Its forward reads these attributes: without them it does not calibrate, resize or warn.
        for name, value in {"op_threshs": None, "apply_sigmoid": False}.items():
            setattr(self.model, name, value)
        vars(self.model).pop("input_resolution", None)
        self.indices: torch.Tensor | None
        self.register_buffer("indices", None if indices is None else torch.tensor(indices), persistent=False)

    def forward(self, x: Float[torch.Tensor, "n 1 h w"]) -> Float[torch.Tensor, "n classes"]:
        """Logits."""
        logits = self.model(x)
        return logits if self.indices is None else logits.index_select(1, self.indices)


def is_torchxrayvision(module: torch.nn.Module) -> bool:
    """Whether a module is a classifier of torchxrayvision, or built like one."""
    return hasattr(module, "op_threshs") and any(hasattr(module, name) for name in ("pathologies", "targets"))


def make(name: str, description: Description) -> torch.nn.Module:
    """The model of a name of pretrained weights; with a local file, nothing is downloaded. Raises UsageError."""
    try:
        import torchxrayvision as xrv
    except ImportError as error:
        raise MissingDependency("torchxrayvision is not installed: pip install torchxrayvision") from error
    models = {k: v for k, v in xrv.models.model_urls.items() if k.startswith(("densenet", "resnet"))}
    if name not in models:
        raise UsageError(f"torchxrayvision has no weights {name!r}; it has {', '.join(sorted(models))}")
    if description.weights and description.weights != "pretrained":
        if not name.startswith("densenet"):
            raise UsageError(f"{name} cannot be built without its download: give MODULE:FACTORY instead")
        labels = models[name]["labels"]
        model = xrv.models.DenseNet(num_classes=len(labels), weights=None)
        model.targets = model.pathologies = labels
        if "op_threshs" in models[name]:
            model.op_threshs = torch.tensor(models[name]["op_threshs"])
        return model
    try:
        return xrv.models.get_model(name)
    except Exception as error:  # its download and its unpickling can raise anything
        raise ModelError(
            f"torchxrayvision cannot load {name}: {first_line(error)}; without a "
            "network, save its state dict elsewhere and give --weights FILE"
        ) from error


def fit(model: torch.nn.Module, state: dict[str, torch.Tensor], origin: str) -> list[str]:
    """Load a state dict with or without operating thresholds; returns the names left over. Raises ModelError.

    The files that the library downloads have no thresholds: it sets them after loading. A state dict of its finished
    model has them.
    """
    thresholds = next((tensor for name, tensor in state.items() if name.rpartition(".")[2] == _THRESHOLDS), None)
    own_thresholds = getattr(model, _THRESHOLDS)
    setattr(model, _THRESHOLDS, None if thresholds is None else torch.empty_like(thresholds))
    leftovers = fit_state_dict(model, state, origin)
    if thresholds is None:
        setattr(model, _THRESHOLDS, own_thresholds)
    return leftovers


def source_of(
    model: torch.nn.Module, origin: str, sha256: str | None, description: Description, notes: tuple[str, ...]
) -> TorchSource:
    """The source of a model of the library. Raises UsageError when its labels do not fit its logits."""
    side = int(getattr(model, "input_resolution", 224))
    size = description.input_size or (side, side)
    channels = input_channels(Logits(model), size)
    names, notes = _names(model, run_once(Logits(model), channels, size)[0], notes)
    indices = [i for i, name in enumerate(names) if name]
    if not indices:
        raise UsageError(f"{origin} gives none of its outputs a name: set its `pathologies`")
    if len(indices) < len(names):
        notes += (f"{len(names) - len(indices)} of its {len(names)} outputs have no name and are left out",)
    own_labels = (
        tuple(names[i] for i in indices) if len(indices) > 1 else (f"no {names[indices[0]]}", names[indices[0]])
    )
    facts = ModelFacts(
        name=origin.partition(":")[2],
        origin=origin,
        sha256=sha256,
        channels=channels,
        size=size,
        count_logits=lambda sides: (len(indices), None),
        normalisation=Normalisation(mean=_MEAN * channels, std=_STD * channels),
        normalisation_is_known=True,
        # XRayCenterCrop, then XRayResizer with skimage, which antialiases.
        preprocessing=StatedPreprocessing("bilinear", True, "crop", 1.0, "none"),
        task="multilabel",
        notes=notes,
    )
    fields = describe(replace(description, labels=description.labels or own_labels), facts)
    module = Logits(model, indices if len(indices) < len(names) else None).eval()
    thresholds = _thresholds(model, origin, len(names), indices)
    classes = fields["classes"][-len(indices) :]
    if names_without := [spec.name for spec, t in zip(classes, thresholds, strict=True) if t is None]:
        fields["notes"] += (f"no operating threshold, so never a finding: {', '.join(names_without)}",)
    specs = [c.model_copy(update={"threshold": t}) for c, t in zip(classes, thresholds, strict=True)]
    fields["classes"] = (*fields["classes"][: -len(indices)], *specs)
    return TorchSource(module=module, **fields)


def _names(model: torch.nn.Module, outputs: int | None, notes: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """The names of the model's outputs, and the notes about them."""
    names: list[str] = list(getattr(model, "pathologies", None) or model.targets)  # type: ignore[arg-type]
    if outputs is None or outputs == len(names):
        return names, notes
    note = f"it names {len(names)} classes and gives {outputs} logits: its names are not used"
    return [f"class {i}" for i in range(outputs)], (*notes, note)


def _thresholds(model: torch.nn.Module, origin: str, outputs: int, indices: list[int]) -> list[float | None]:
    """The operating threshold of each output at `indices`; None where it is NaN, 0.5 each where the model has none."""
    if model.op_threshs is None:
        return [0.5] * len(indices)
    values: list[float] = torch.as_tensor(model.op_threshs).flatten().tolist()
    if len(values) != outputs:
        raise UsageError(f"{origin} has {len(values)} operating thresholds for {outputs} classes: give each one")
    thresholds = [None if isnan(values[i]) else values[i] for i in indices]
    if all(t is None for t in thresholds):
        raise UsageError(f"all operating thresholds of {origin} are NaN: set its `op_threshs`, or None for 0.5 each")
    if bad := [t for t in thresholds if t is not None and not 0 <= t <= 1]:
        raise UsageError(f"{origin} has the operating threshold {bad[0]:g}: they are probabilities, 0 to 1")
    return thresholds
