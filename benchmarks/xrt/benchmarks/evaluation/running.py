"""From paths to an evaluation: which model, which cases, which validation cases, which other models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xrt.benchmarks.evaluation.evaluation import Evaluation, Options, Study, assess, score
from xrt.benchmarks.evaluation.predictions import Predictions
from xrt.benchmarks.evaluation.selection import Part, select_part, split_by_file, split_by_proportions
from xrt.benchmarks.evaluation.tables import PredictionTable
from xrt.benchmarks.localisation import Pointing
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable, cases_for
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.opening import OpenedSession, open_session

ThresholdPart = Literal["auto", "train", "val", "test", "none"]
ImageProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Request:
    """What to evaluate. A model is a bundle NAME.xrt or a CSV of predictions; so is each of `also`.

    `split_file`, or `proportions` with `split_seed`, say how training divided the data set; the publishers' parts are
    taken otherwise. `validation` is of the model's own kind: a data set for a bundle; for a table another table, or a
    data set whose images the table has too. Without it `threshold_split` names a part of the data set; `auto` is its
    validation part, if it has one that is not reported.
    """

    model: Path
    dataset: Path | None = None
    also: tuple[Path, ...] = ()
    split: Part = "auto"
    proportions: tuple[float, float, float] | None = None
    split_seed: int = 0
    split_file: Path | None = None
    validation: Path | None = None
    threshold_split: ThresholdPart = "auto"
    backend: str = "auto"
    precision: str = "auto"
    options: Options = Options()


def run(
    request: Request,
    *,
    progress: ImageProgress = lambda model, done, total: None,
    say: Callable[[str], None] = lambda step: None,
) -> tuple[Evaluation, Study]:
    """Carry out a request. Raises UsageError, DataError, BundleError, BackendError or ImageError."""
    with _opened(request.model, request, progress) as model:
        if request.dataset is None and not isinstance(model, _TableModel):
            raise UsageError("a bundle is evaluated on a labelled data set: give DATASET")
        whole = _divided(model.cases(request.dataset), request)
        cases, part = select_part(whole, request.split)
        predictions, pointing = model.predict(cases, maps=True)
        validation = _validation(model, whole, part, request)
    others = []
    for path in request.also:
        with _opened(path, request, progress) as other:
            others.append(other.predict(cases, maps=False)[0])
    return assess(
        predictions,
        part,
        validation=validation,
        others=_told_apart(predictions, others, request.also),
        pointing=pointing,
        options=request.options,
        progress=say,
    )


@dataclass(frozen=True)
class _BundleModel:
    """A bundle with an open session."""

    bundle: Bundle
    opened: OpenedSession
    progress: ImageProgress

    def cases(self, dataset: Path | None) -> CaseTable:
        assert dataset is not None
        return cases_for(self.bundle.manifest, dataset)

    def predict(self, cases: CaseTable, *, maps: bool) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Score the cases; columns are in the order of this model's own classes."""
        names = tuple(c.name for c in self.bundle.manifest.logit_classes)
        if set(names) != set(cases.logit_classes):
            raise DataError(
                f"{self.bundle.path.name} has the classes {', '.join(names)}; the cases of {cases.name} have "
                f"{', '.join(cases.logit_classes)}: models are compared on the same classes"
            )
        own = replace(cases, classes=tuple(c.name for c in self.bundle.manifest.classes))
        name = self.bundle.manifest.name
        return score(
            self.bundle, self.opened, own, maps=maps, progress=lambda done, total: self.progress(name, done, total)
        )


@dataclass(frozen=True)
class _TableModel:
    """A table of predictions."""

    table: PredictionTable

    def cases(self, dataset: Path | None) -> CaseTable:
        return self.table.cases() if dataset is None else self.table.data_set(dataset)

    def predict(self, cases: CaseTable, *, maps: bool) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Look the cases up; a table has no maps."""
        return self.table.predictions(cases), ()


@contextmanager
def _opened(path: Path, request: Request, progress: ImageProgress) -> Iterator[_BundleModel | _TableModel]:
    if path.is_file():
        yield _TableModel(PredictionTable.read(path))
        return
    bundle = Bundle.open(path)
    opened = open_session(bundle, backend=request.backend, precision=request.precision)
    with opened.session:
        yield _BundleModel(bundle, opened, progress)


def _divided(table: CaseTable, request: Request) -> CaseTable:
    if request.split_file is not None and request.proportions is not None:
        raise UsageError("--split-file says exactly how the cases are divided: leave out --proportions")
    if request.split_file is not None:
        return split_by_file(table, request.split_file)
    if request.proportions is not None:
        return split_by_proportions(table, request.proportions, request.split_seed)
    return table


def _validation(model: _BundleModel | _TableModel, whole: CaseTable, part: str, request: Request) -> Predictions | None:
    """The model's predictions on the cases that give thresholds, if there are any."""
    if request.validation is not None:
        if isinstance(model, _TableModel) and request.validation.is_file() and request.validation.suffix != ".npz":
            other = PredictionTable.read(request.validation)
            return other.predictions(replace(other.cases(), task=whole.task, classes=whole.classes))
        cases, _ = select_part(model.cases(request.validation), "all")
        return model.predict(cases, maps=False)[0]
    if request.threshold_split == "none":
        return None
    if request.threshold_split != "auto":
        if part in ("all", request.threshold_split):
            raise UsageError(
                f"part {part!r} is reported, so --threshold-split {request.threshold_split} would choose thresholds on "
                "reported cases: report another part (--split)"
            )
        return model.predict(select_part(whole, request.threshold_split)[0], maps=False)[0]
    chosen = [i for i, case in enumerate(whole.cases) if case.split == "val"]
    if part in ("all", "val") or not chosen:
        return None
    cases = whole.subset(chosen)
    if isinstance(model, _TableModel) and not {case.key for case in cases.cases} <= set(model.table.keys):
        return None
    return model.predict(cases, maps=False)[0]


def _told_apart(first: Predictions, others: list[Predictions], paths: tuple[Path, ...]) -> tuple[Predictions, ...]:
    """The other models, each under a name of its own: its path where its name is taken."""
    taken, named = {first.model.name}, []
    for other, path in zip(others, paths, strict=True):
        name = other.model.name if other.model.name not in taken else str(path)
        taken.add(name)
        named.append(replace(other, model=replace(other.model, name=name)))
    return tuple(named)
