"""What a model says about labelled cases, whether a bundle said it just now or a table recorded it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from xrt.benchmarks.scoring import Scores, Unscored
from xrt.runtime.bundle.manifest import Task
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.decisions import calibrated, decided
from xrt.runtime.opening import OpenedSession


@dataclass(frozen=True)
class ModelInfo:
    """Whose predictions these are. `bundle` and `opened` are None for a table; `executed` says what computed."""

    name: str
    executed: str
    sha256: str | None = None
    bundle: Bundle | None = None
    opened: OpenedSession | None = None


@dataclass(frozen=True)
class Predictions:
    """Logits, calibrated probabilities and decision rules of one model on the cases of a table.

    `thresholds` and `temperatures` follow the columns; a multiclass model decides by argmax and has no thresholds.
    `unscored` are cases that the table had besides, and the model could not be asked about.
    """

    model: ModelInfo
    table: CaseTable
    task: Task
    logits: Float[np.ndarray, "n logits"]
    probability: Float[np.ndarray, "n logits"]
    thresholds: tuple[float | None, ...]
    temperatures: tuple[float, ...]
    unscored: tuple[Unscored, ...] = ()

    @classmethod
    def of_scores(cls, bundle: Bundle, opened: OpenedSession, scores: Scores) -> Predictions:
        """What a bundle has just said."""
        manifest, backend = bundle.manifest, opened.backend
        executed = (
            f"{opened.variant.file} on {backend.name} {backend.version()} "
            f"({opened.execution_precision}, {backend.device_class()})"
        )
        return cls(
            model=ModelInfo(manifest.name, executed, bundle.sha256, bundle, opened),
            table=scores.table,
            task=manifest.task,
            logits=scores.logits.astype(np.float64),
            probability=scores.probability,
            thresholds=tuple(c.threshold for c in manifest.logit_classes),
            temperatures=tuple(c.temperature for c in manifest.logit_classes),
            unscored=scores.unscored,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The classes that the columns speak for."""
        return self.table.logit_classes

    @cached_property
    def truth(self) -> Bool[np.ndarray, "n logits"]:
        """The labels."""
        return self.table.labels.astype(bool)

    @cached_property
    def decisions(self) -> Bool[np.ndarray, "n logits"]:
        """Which (image, class) pairs are called positive."""
        return decided(self.probability, self.task, self.thresholds)

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Whether the class decided for is the true one, for every image of a multiclass task."""
        return np.asarray((self.truth & self.decisions).any(axis=1))

    @cached_property
    def patient(self) -> Int[np.ndarray, " n"]:
        """The patient of every case, numbered from 0."""
        return np.unique([case.patient for case in self.table.cases], return_inverse=True)[1].astype(np.int64)

    def with_thresholds(self, thresholds: tuple[float | None, ...]) -> Predictions:
        """The same predictions, decided anew."""
        return replace(self, thresholds=thresholds)

    def with_temperatures(self, temperatures: tuple[float, ...]) -> Predictions:
        """The same logits, calibrated anew; every threshold moves along, so that all decisions stay as they were."""
        moved = tuple(
            None if t is None else _moved(t, old / new)
            for t, old, new in zip(self.thresholds, self.temperatures, temperatures, strict=True)
        )
        probability = calibrated(self.logits, self.task, temperatures)
        return replace(self, probability=probability, thresholds=moved, temperatures=temperatures)


def _moved(threshold: float, factor: float) -> float:
    """The threshold on sigmoid(factor × z) that decides as `threshold` does on sigmoid(z)."""
    if threshold in (0.0, 1.0):
        return threshold
    z = factor * np.log(threshold / (1 - threshold))
    return float(calibrated(np.array([[z]]), "multilabel", [1.0])[0, 0])
