"""Which kind of source a user means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from xrt.export.sources.checkpoint import from_checkpoint
from xrt.export.sources.factory import from_factory
from xrt.export.sources.onnx_file import from_onnx
from xrt.export.sources.source import Description, Source
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.errors import ModelError, UsageError
from xrt.train.models.state_dict import read_state_dict

_CHECKPOINT = {".json", ".safetensors"}
_WEIGHTS = {".pt", ".pth", ".bin", ".ckpt"}


def open_source(spec: str, description: Description | None = None) -> Source:
    """The source that `spec` names.

    A run of `xrt train` or its weights file; an `.onnx` file; `MODULE:FACTORY`, `torchvision:NAME`, `timm:NAME` or
    `torchxrayvision:NAME`. Raises UsageError when it is none of these, ModelError when it cannot be used.
    """
    description = description or Description()
    path = Path(spec)
    if path.suffix.lower() == ".onnx":
        return from_onnx(path, description)
    if _alone(path):
        read_state_dict(path)
        raise UsageError(
            f"{path} holds weights but no architecture: give MODULE:FACTORY, torchvision:NAME or timm:NAME, and "
            f"--weights {path}"
        )
    if path.exists() and (path.is_dir() or path.suffix in _CHECKPOINT):
        given = [name for name, value in vars(description).items() if value is not None]
        if given:
            options = ", ".join("--" + name.replace("_", "-") for name in given)
            raise UsageError(f"a checkpoint of `xrt train` says everything about itself: leave out {options}")
        return from_checkpoint(path)
    module, colon, factory = spec.partition(":")
    if colon and module and factory:
        return from_factory(spec, description)
    what = "no model" if path.exists() else "not there"
    raise ModelError(
        f"{spec} is {what}; a model is a run of `xrt train`, an .onnx file, MODULE:FACTORY, torchvision:NAME, "
        "timm:NAME or torchxrayvision:NAME"
    )


def reopen_source(spec: str, weights: str | None, manifest: Manifest) -> Source:
    """The source of a bundle once more, described by its manifest. Raises as `open_source` does."""
    path = Path(spec)
    if path.exists() and path.suffix.lower() != ".onnx":
        return from_checkpoint(path)
    normalisation, size = manifest.provenance.normalisation, manifest.preprocessing
    description = Description(
        labels=tuple(spec.name for spec in manifest.classes),
        task=manifest.task,
        input_size=(size.height, size.width),
        mean=normalisation.get("mean"),
        std=normalisation.get("std"),
        weights=weights,
        output=manifest.provenance.output,
    )
    return replace(open_source(spec, description), explained_class=manifest.explained_class)


def _alone(path: Path) -> bool:
    """Whether a file holds weights without the description that `xrt train` puts beside them."""
    kind = path.suffix.lower()
    return path.is_file() and (kind in _WEIGHTS or (kind == ".safetensors" and not path.with_suffix(".json").exists()))
