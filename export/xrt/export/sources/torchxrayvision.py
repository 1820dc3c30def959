"""Models of torchxrayvision: its scale of ±1024, its operating thresholds, its classes without a name.

The library calibrates behind the sigmoid: with threshold t, a probability p becomes p / 2t below it and
1 - (1 - p) / 2(1 - t) above, so that 0.5 is the operating point. A heatmap explains the logit, so the calibration is
taken off, and p ≥ t decides as the library does. A class whose threshold is NaN always scores 0.5 there: it is kept
without a threshold, and is never a finding. A class without a name is left out.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from jaxtyping import Float

from xrt.export.sources.described import describe
from xrt.export.sources.source import Description, Source
from xrt.runtime.errors import MissingDependency, ModelError, UsageError

# Its `normalize` maps 0..maxval to -1024..1024: (x - 0.5) / (1 / 2048) for x in 0..1.
_MEAN, _STD = (0.5,), (1 / 2048,)


class Logits(torch.nn.Module):
    """A model of the library without its calibration, giving the logits of its named classes alone."""

    def __init__(self, model: torch.nn.Module, kept: list[int]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        # What its forward looks at: without these attributes it neither calibrates, nor resizes, nor warns.
        for name, value in {"op_threshs": None, "apply_sigmoid": False}.items():
            setattr(self.model, name, value)
        vars(self.model).pop("input_resolution", None)
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self._all = kept == list(range(len(kept)))

    def forward(self, x: Float[torch.Tensor, "n 1 h w"]) -> Float[torch.Tensor, "n classes"]:
        """Logits."""
        logits = self.model(x)
        return logits if self._all else logits.index_select(1, self.kept)


def is_one(module: torch.nn.Module) -> bool:
    """Whether a module is a classifier of torchxrayvision, or built like one."""
    return hasattr(module, "op_threshs") and any(hasattr(module, name) for name in ("pathologies", "targets"))


def make(name: str, description: Description) -> torch.nn.Module:
    """The model behind a name of its pretrained weights; with a local file, no download. Raises UsageError."""
    try:
        import torchxrayvision as xrv
    except ImportError as error:
        raise MissingDependency("torchxrayvision is not installed: pip install torchxrayvision") from error
    known = xrv.models.model_urls
    if name not in known:
        raise UsageError(f"torchxrayvision has no weights {name!r}; it has {', '.join(sorted(known))}")
    if description.weights and description.weights != "pretrained":
        if not name.startswith("densenet"):
            raise UsageError(f"{name} cannot be built without its download: give MODULE:FACTORY instead")
        labels = known[name]["labels"]
        model = xrv.models.DenseNet(num_classes=len(labels), weights=None)
        model.targets = model.pathologies = labels
        if "op_threshs" in known[name]:
            model.op_threshs = torch.tensor(known[name]["op_threshs"])
        return model
    try:
        return xrv.models.get_model(name)
    except Exception as error:  # its download and its unpickling raise what they like
        raise ModelError(
            f"torchxrayvision cannot load {name}: {(str(error) or type(error).__name__).splitlines()[0]}; without a "
            "network, save its state dict elsewhere and give --weights FILE"
        ) from error


def source_of(
    model: torch.nn.Module, origin: str, sha256: str | None, description: Description, notes: tuple[str, ...]
) -> Source:
    """The source of a model of the library. Raises UsageError when its labels do not fit its logits."""
    names: list[str] = list(getattr(model, "pathologies", None) or model.targets)  # type: ignore[arg-type]
    kept = [i for i, name in enumerate(names) if name]
    labels = description.labels or tuple(names[i] for i in kept)
    resolution = getattr(model, "input_resolution", 224)
    source = describe(
        replace(description, labels=labels, task=description.task or "multilabel"),
        name=origin.partition(":")[2],
        origin=origin,
        sha256=sha256,
        module=Logits(model, kept).eval(),
        channels=1,
        logits=None,
        size=(resolution, resolution),
        mean=_MEAN,
        std=_STD,
        normalisation_known=True,
        notes=notes,
    )
    told = list(source.notes)
    if len(kept) < len(names):
        told.append(f"{len(names) - len(kept)} of its {len(names)} outputs have no name and are left out")
    thresholds: list[float | None] = [0.5] * len(kept)
    if (values := model.op_threshs) is not None:
        given = torch.as_tensor(values).flatten().tolist()
        if len(given) != len(names):
            raise UsageError(f"{origin} has {len(given)} operating thresholds for {len(names)} classes")
        thresholds = [given[i] if given[i] == given[i] else None for i in kept]
    if without := [names[i] for i, t in zip(kept, thresholds, strict=True) if t is None]:
        told.append(f"no operating threshold, so never a finding: {', '.join(without)}")
    classes = tuple(c.model_copy(update={"threshold": t}) for c, t in zip(source.classes, thresholds, strict=True))
    crop = source.preprocessing.model_copy(update={"fit": "crop"})
    return replace(source, classes=classes, preprocessing=crop, notes=tuple(told))
