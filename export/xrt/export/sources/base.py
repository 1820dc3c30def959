"""A classifier to be exported, and everything that export needs to know about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import onnx_ir as ir

from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.passes.expose_logits import Activation
from xrt.export.references.reference import Reference
from xrt.export.sources.stated_preprocessing import NOTHING_STATED, StatedPreprocessing
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamSpec, ClassSpec, InputStatistics, Preprocessing, Task
from xrt.runtime.certification.original import Original
from xrt.train.models import Normalisation


@dataclass(frozen=True)
class Description:
    """What the user states about a model that does not describe itself. None means the source's default.

    `labels` are the classes in the order of the logits; `input_size` is (height, width); `mean` and `std` are in
    units of full scale, one entry for each channel, or one for all; `weights` is a file, or the word `pretrained`;
    `population` says for whom the model was made. `normalisation` is the name of a mean and std, `channel_order` the
    order in which the model takes the channels to which mean and std, in the order of RGB, belong.
    """

    labels: tuple[str, ...] | None = None
    task: Task | None = None
    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    normalisation: str | None = None
    channel_order: Literal["rgb", "bgr"] | None = None
    weights: str | None = None
    output: str | None = None
    preprocessing: StatedPreprocessing = NOTHING_STATED
    population: str | None = None

    def stated_options(self) -> list[str]:
        """The options of the command line that state something about the model, but for the population."""
        names = [name for name, value in vars(self).items() if value is not None and name not in _GROUPS]
        return [f"--{name.replace('_', '-')}" for name in (*names, *self.preprocessing.stated())]


_GROUPS = ("preprocessing", "population")


@dataclass(frozen=True)
class SourceGraph(ABC):
    """A source's float graph: one input [n, C, H, W], one output `logits` [n, classes], dynamic batch, fixed shapes.

    `logits_name` is the name of the logits in the file or program before conversion, `activation` the one that was
    removed after them.
    """

    model: ir.Model
    logits_name: str
    activation: Activation | None

    @property
    def tensors(self) -> frozenset[str] | None:
        """The names of the values that the reference can read; None where it can read all."""
        return None

    @abstractmethod
    def reference(self, targets: Sequence[Target], cams: Sequence[CamSpec], explained: ExplainedLogits) -> Reference:
        """The reference for variants; `model` then has its uint8 input, and no heatmaps yet."""


class SourceFields(TypedDict):
    """The fields that every source has."""

    name: str
    task: Task
    classes: tuple[ClassSpec, ...]
    explained_class: int | None
    preprocessing: Preprocessing
    normalisation: Normalisation
    origin: str
    sha256: str | None
    weights: str | None
    notes: tuple[str, ...]
    assumed: dict[str, str]
    population: str | None


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A classifier: a `TorchSource` or, without a PyTorch model, an `OnnxSource`.

    `normalisation` (in units of full scale) has one entry for each input channel. `notes` are what its user should
    know: defaults that were used, weights that were not. `output` names the logits of a model that has several
    outputs, where the user named them.
    """

    name: str
    task: Task
    classes: tuple[ClassSpec, ...]
    explained_class: int | None
    preprocessing: Preprocessing
    normalisation: Normalisation
    origin: str
    sha256: str | None
    weights: str | None = None
    input_statistics: InputStatistics | None = None
    dataset: str | None = None
    recipe: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    output: str | None = None
    assumed: dict[str, str] = field(default_factory=dict)
    population: str | None = None

    @abstractmethod
    def graph(self) -> SourceGraph:
        """The classifier as a graph. Raises ModelError when it cannot be converted."""

    def original(self) -> Original | None:
        """What the model's own pipeline makes of radiographs, where it comes with one that can be asked."""
        return None

    @property
    def channels(self) -> int:
        """How many channels the model takes."""
        return len(self.normalisation.mean)

    @property
    def logits(self) -> int:
        """How many logits the model gives."""
        return 1 if self.task == "binary" else len(self.classes)

    @property
    def signs(self) -> tuple[float, ...]:
        """+1 for each logit; -1 where a one-logit model's map explains its negative class."""
        return (-1.0,) if self.task == "binary" and self.explained_class == 0 else (1.0,) * self.logits
