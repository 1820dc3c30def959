"""A classifier to be exported, and everything that export needs to know about it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from xrt.runtime.bundle.manifest import ClassSpec, InputStatistics, Preprocessing, Task
from xrt.runtime.errors import UsageError


@dataclass(frozen=True)
class OnnxFile:
    """A model of which only its graph is left. `output` names the logits where the file has several outputs."""

    data: bytes
    output: str | None = None


@dataclass(frozen=True)
class Description:
    """What a model does not say about itself, as far as its user does. None leaves it to the source's default.

    `labels` are the classes in the order of the logits; `input_size` is (height, width); `mean` and `std` are in
    units of full scale, one entry for each channel; `weights` is a file, or the word `pretrained`.
    """

    labels: tuple[str, ...] | None = None
    task: Task | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    weights: str | None = None
    output: str | None = None


@dataclass(frozen=True)
class Source:
    """A classifier: a PyTorch `module` or, where none is left, an `onnx_file`.

    `mean` and `std` (in units of full scale) have one entry for each input channel. `notes` are what its user should
    be told: defaults that were taken, weights that were left over.
    """

    name: str
    task: Task
    classes: tuple[ClassSpec, ...]
    explained_class: int | None
    preprocessing: Preprocessing
    mean: tuple[float, ...]
    std: tuple[float, ...]
    origin: str
    sha256: str | None
    module: torch.nn.Module | None = None
    onnx_file: OnnxFile | None = None
    weights: str | None = None
    input_statistics: InputStatistics | None = None
    dataset: str | None = None
    recipe: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def logits(self) -> int:
        """How many logits the model gives."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def signs(self) -> tuple[float, ...]:
        """+1 for each logit; -1 where a one-logit model's map explains its negative class."""
        return (-1.0,) if self.task == "binary" and self.explained_class == 0 else (1.0,) * self.logits

    @property
    def torch_module(self) -> torch.nn.Module:
        """The module. Raises UsageError for an ONNX file, which has none."""
        if self.module is None:
            raise UsageError(f"{self.origin} is an ONNX file: this needs the PyTorch model")
        return self.module
