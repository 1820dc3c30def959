"""What a model predicts for labelled cases: a bundle that has just scored them, or a table of predictions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from xrt.runtime.bundle.manifest import Task
from xrt.runtime.datasets import CaseTable
from xrt.runtime.decisions import calibrated, decided
from xrt.runtime.scoring import Scores, Unscored
from xrt.runtime.session import OpenedSession


@dataclass(frozen=True)
class ModelInfo:
    """Which model the predictions are of. `opened` is None for a table; `executed` says what computed them."""

    name: str
    executed: str
    sha256: str | None = None
    opened: OpenedSession | None = None


@dataclass(frozen=True)
class Predictions:
    """Logits, calibrated probabilities and decision rules of one model on the cases of a table.

    `thresholds` and `temperatures` follow the columns; a multiclass model decides by argmax and has no thresholds.
    `unscored` are further cases of the table, for which the model could give no prediction.
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
    def of_scores(cls, opened: OpenedSession, scores: Scores) -> Predictions:
        """The scores that a bundle gave."""
        manifest = opened.manifest
        return cls(
            model=ModelInfo(manifest.name, opened.description, opened.bundle.sha256, opened),
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
        """The classes of the columns."""
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
        """The same predictions, decided by other thresholds."""
        return replace(self, thresholds=thresholds)

    def with_temperatures(self, temperatures: tuple[float, ...]) -> Predictions:
        """The same logits under other temperatures; thresholds are moved with them, so that all decisions stay."""
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
