"""Where a model comes from: everything that export needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from xrt.runtime.bundle.manifest import ClassSpec, InputStatistics, Preprocessing, Task
from xrt.train.checkpoint import load_checkpoint


@dataclass(frozen=True)
class Source:
    """A classifier in PyTorch. `mean` and `std` (in units of full scale) have one entry for each input channel."""

    name: str
    module: torch.nn.Module
    task: Task
    classes: tuple[ClassSpec, ...]
    explained_class: int | None
    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    sha256: str | None
    input_statistics: InputStatistics | None = None
    dataset: str | None = None
    recipe: str | None = None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def logits(self) -> int:
        """How many logits the model gives."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def signs(self) -> list[float]:
        """+1 for each explained logit; -1 where a one-logit model's map explains its negative class."""
        return [-1.0] if self.task == "binary" and self.explained_class == 0 else [1.0] * self.logits


def from_checkpoint(path: Path) -> Source:
    """A checkpoint that `xrt train` wrote: the run's folder or its weights file. Raises ModelError."""
    module, spec = load_checkpoint(path)
    return Source(
        name=path.name if path.is_dir() else path.resolve().parent.name,
        module=module,
        task=spec.task,
        classes=spec.classes,
        explained_class=spec.explained_class,
        preprocessing=spec.preprocessing,
        mean=tuple(spec.normalisation.mean),
        std=tuple(spec.normalisation.std),
        origin=str(path),
        sha256=spec.weights_sha256,
        input_statistics=spec.input_statistics,
        dataset=spec.dataset,
        recipe=spec.recipe,
        versions=dict(spec.versions),
    )
