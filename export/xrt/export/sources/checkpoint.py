"""Checkpoints of `xrt train`: they describe themselves completely."""

from __future__ import annotations

from pathlib import Path

from xrt.export.sources.torch_source import TorchSource
from xrt.train.checkpoint import load_checkpoint


def from_checkpoint(path: Path) -> TorchSource:
    """A checkpoint that `xrt train` wrote: the run's folder or its weights file. Raises ModelError."""
    module, spec = load_checkpoint(path)
    return TorchSource(
        name=path.name if path.is_dir() else path.resolve().parent.name,
        module=module,
        task=spec.task,
        classes=spec.classes,
        explained_class=spec.explained_class,
        preprocessing=spec.preprocessing,
        normalisation=spec.normalisation,
        origin=str(path),
        sha256=spec.weights_sha256,
        input_statistics=spec.input_statistics,
        dataset=spec.dataset,
        population=spec.population,
        recipe=spec.recipe,
        versions=dict(spec.versions),
    )
