"""The kinds of sources, and opening the one that a user names."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

from xrt.export.sources.base import Description, Source
from xrt.export.sources.checkpoint import from_checkpoint
from xrt.export.sources.factory import from_factory
from xrt.export.sources.onnx_source import from_onnx
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.export.sources.torch_source import TorchSource
from xrt.runtime.bundle.manifest import Manifest, Preprocessing
from xrt.runtime.errors import ModelError, UsageError
from xrt.train.models.saved_weights import read_state_dict

_CHECKPOINT_SUFFIXES = {".json", ".safetensors"}
_WEIGHTS_SUFFIXES = {".pt", ".pth", ".bin", ".ckpt"}


def open_source(spec: str, description: Description | None = None) -> Source:
    """The source that `spec` names.

    A run of `xrt train` or its weights file; an `.onnx` file; `MODULE:FACTORY`, `torchvision:NAME`, `timm:NAME` or
    `torchxrayvision:NAME`. Raises UsageError when it is none of these, ModelError when it cannot be used.
    """
    description = description or Description()
    path = Path(spec)
    if path.suffix.lower() == ".onnx":
        return from_onnx(path, description)
    if _has_weights_alone(path):
        read_state_dict(path)  # what cannot be read is said first
        raise UsageError(
            f"{path} holds weights but no architecture: give MODULE:FACTORY, torchvision:NAME or timm:NAME, and "
            f"--weights {path}"
        )
    if path.exists() and (path.is_dir() or path.suffix.lower() in _CHECKPOINT_SUFFIXES):
        if options := description.stated_options():
            raise UsageError(f"a checkpoint of `xrt train` has its own description: leave out {', '.join(options)}")
        source = from_checkpoint(path)
        return source if description.population is None else replace(source, population=description.population)
    module, colon, factory = spec.partition(":")
    if colon and module and factory:
        return from_factory(spec, description)
    problem = "not a model" if path.exists() else "not there"
    raise ModelError(
        f"{spec} is {problem}; a model is a run of `xrt train`, an .onnx file, MODULE:FACTORY, torchvision:NAME, "
        "timm:NAME or torchxrayvision:NAME"
    )


def reopen_source(spec: str, weights: str | None, manifest: Manifest) -> Source:
    """The source that a bundle was exported from, described by the bundle's manifest.

    A checkpoint has its own description, and its own weights. Raises what `open_source` raises.
    """
    path = Path(spec)
    if path.exists() and path.suffix.lower() != ".onnx" and not _has_weights_alone(path):
        return from_checkpoint(path)
    normalisation, preprocessing = manifest.provenance.normalisation, manifest.preprocessing
    description = Description(
        labels=tuple(c.name for c in manifest.classes),
        task=manifest.task,
        input_size=(preprocessing.height, preprocessing.width),
        mean=normalisation.get("mean"),
        std=normalisation.get("std"),
        weights=weights,
        output=manifest.provenance.output,
        preprocessing=_statement_of(preprocessing),
        population=manifest.intended_use.population,
    )
    return replace(open_source(spec, description), explained_class=manifest.explained_class)


def _statement_of(preprocessing: Preprocessing) -> StatedPreprocessing:
    """All of a bundle's preprocessing as stated: what it was exported with is what it runs with."""
    names = [f.name for f in fields(StatedPreprocessing)]
    return StatedPreprocessing(**{name: getattr(preprocessing, name) for name in names})


def require_torch(source: Source) -> TorchSource:
    """A source that is a PyTorch model. Raises UsageError for an ONNX file."""
    if isinstance(source, TorchSource):
        return source
    raise UsageError(f"{source.origin} is an ONNX file: this needs the PyTorch model")


def _has_weights_alone(path: Path) -> bool:
    """Whether a file holds weights without the description that `xrt train` puts beside them."""
    suffix = path.suffix.lower()
    return path.is_file() and (
        suffix in _WEIGHTS_SUFFIXES or (suffix == ".safetensors" and not path.with_suffix(".json").exists())
    )
