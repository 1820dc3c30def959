"""What can be evaluated: a bundle, or a table of predictions. Both give cases, and predictions for cases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from xrt.benchmarks.evaluation.measure.prediction_table import PredictionTable
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.evaluation.score import score
from xrt.benchmarks.localisation import Pointing
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.datasets import CaseTable, open_dataset_for
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.progress import Progress
from xrt.runtime.session import OpenedSession, open_session


@runtime_checkable
class Predictor(Protocol):
    """Gives predictions, and the pointing game where it has maps."""

    def predict(
        self, cases: CaseTable, *, maps: bool, allow_unscored: float
    ) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Predictions for the cases; at most the fraction `allow_unscored` (0..1) of them may be left out."""
        ...


@dataclass(frozen=True)
class BundleModel:
    """A bundle, and how its sessions are opened."""

    bundle: Bundle
    backend: str
    precision: str
    progress: Progress

    @contextmanager
    def opened(self) -> Iterator[Predictor]:
        """A session that predicts."""
        with open_session(self.bundle, backend=self.backend, precision=self.precision) as session:
            yield _SessionPredictor(self, session)

    def cases(self, dataset: Path | None) -> CaseTable:
        """The cases of a data set with the bundle's classes. Raises UsageError without one."""
        if dataset is None:
            raise UsageError("a bundle is evaluated on a labelled data set: give DATASET")
        return open_dataset_for(self.bundle.manifest, dataset)

    def require_classes(self, cases: CaseTable) -> None:
        """Raise DataError unless the bundle has the classes of the cases, in any order, exclusive ones or not."""
        manifest = self.bundle.manifest
        names = tuple(c.name for c in manifest.logit_classes)
        if (manifest.task == "multiclass") != (cases.task == "multiclass"):
            raise DataError(
                f"{self.bundle.path.name} is a {manifest.task} model, {cases.name} is taken as {cases.task}: models "
                "are compared on the same task"
            )
        if set(names) != set(cases.logit_classes):
            raise DataError(
                f"{self.bundle.path.name} has the classes {', '.join(names)}; the cases of {cases.name} have "
                f"{', '.join(cases.logit_classes)}: models are compared on the same classes"
            )


@dataclass(frozen=True)
class _SessionPredictor:
    model: BundleModel
    session: OpenedSession

    def predict(
        self, cases: CaseTable, *, maps: bool, allow_unscored: float
    ) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Score the cases; columns are in the order of the bundle's own classes."""
        self.model.require_classes(cases)
        manifest = self.session.manifest
        # One logit of a binary bundle and one independent class of a table mean the same.
        own = replace(cases, task=manifest.task, classes=tuple(c.name for c in manifest.classes))
        return score(self.session, own, maps=maps, allow_unscored=allow_unscored, progress=self.model.progress)


@dataclass(frozen=True)
class TableModel:
    """A table of predictions. It predicts by looking up, and has no maps."""

    table: PredictionTable

    def opened(self) -> AbstractContextManager[Predictor]:
        """The model itself: a table needs no session."""
        return nullcontext(self)

    def cases(self, dataset: Path | None) -> CaseTable:
        """The cases of a data set with the table's classes; without one, the table's own."""
        return self.table.cases() if dataset is None else self.table.data_set(dataset)

    def require_classes(self, cases: CaseTable) -> None:
        """Raise DataError unless the table has the classes of the cases, in any order."""
        self.table.require_classes(cases)

    def predict(
        self, cases: CaseTable, *, maps: bool, allow_unscored: float
    ) -> tuple[Predictions, tuple[Pointing, ...]]:
        """The rows of the cases."""
        return self.table.predictions(cases), ()


Model = BundleModel | TableModel
