"""From paths to an evaluation: which model, which cases, which validation cases, which other models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xrt.benchmarks.evaluation.acceptance import require_classes
from xrt.benchmarks.evaluation.evaluation import Evaluation, Options, Study, assess, score
from xrt.benchmarks.evaluation.predictions import Predictions
from xrt.benchmarks.evaluation.selection import (
    Part,
    require_other_patients,
    select_part,
    split_by_file,
    split_by_proportions,
)
from xrt.benchmarks.evaluation.tables import PredictionTable
from xrt.benchmarks.evaluation.thresholds import require_choosable
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
    validation part, if it has one that is not reported. `allow_unscored` is the share of images, 0..1, that may be
    unreadable.
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
    allow_unscored: float = 0.05
    options: Options = Options()


def run(
    request: Request,
    *,
    progress: ImageProgress = lambda model, done, total: None,
    say: Callable[[str], None] = lambda step: None,
) -> tuple[Evaluation, Study]:
    """Carry out a request. Raises UsageError, DataError, BundleError or BackendError."""
    options = request.options
    model, *also = (_read(path, progress) for path in (request.model, *request.also))
    if request.dataset is None and isinstance(model, _BundleModel):
        raise UsageError("a bundle is evaluated on a labelled data set: give DATASET")
    whole = _divided(model.cases(request.dataset), request)
    cases, part = select_part(whole, request.split)
    held_out = _held_out(model, whole, part, request)
    # Scoring may take an hour: what can be refused before it, is.
    require_choosable(cases.task, options.rule, options.temperature, given=held_out is not None)
    require_classes(options.requirements, cases.logit_classes)
    for other in also:
        other.require_classes(cases)
    if held_out is not None:
        require_other_patients(cases, held_out[1])
    validation, others = None, []
    with model.opened(request) as opened:
        predictions, pointing = model.predict(cases, opened, maps=True, allow_unscored=request.allow_unscored)
        if held_out is not None:
            source, held = held_out
            validation = source.predict(held, opened, maps=False, allow_unscored=request.allow_unscored)[0]
    # Models are compared on the same cases: what the first could not read is not asked of the others.
    unscored = {u.index for u in predictions.unscored}
    cases = cases.subset(i for i in range(len(cases)) if i not in unscored)
    for other in also:
        with other.opened(request) as opened:
            others.append(other.predict(cases, opened, maps=False, allow_unscored=0.0)[0])
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
    """A bundle."""

    bundle: Bundle
    progress: ImageProgress

    @contextmanager
    def opened(self, request: Request) -> Iterator[OpenedSession]:
        """A session for `predict`."""
        found = open_session(self.bundle, backend=request.backend, precision=request.precision)
        with found.session:
            yield found

    def cases(self, dataset: Path | None) -> CaseTable:
        assert dataset is not None
        return cases_for(self.bundle.manifest, dataset)

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

    def predict(
        self, cases: CaseTable, opened: OpenedSession | None, *, maps: bool, allow_unscored: float
    ) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Score the cases; columns are in the order of this model's own classes."""
        assert opened is not None
        self.require_classes(cases)
        manifest = self.bundle.manifest
        # One logit of a binary bundle and one independent class of a table say the same.
        own = replace(cases, task=manifest.task, classes=tuple(c.name for c in manifest.classes))
        name = manifest.name
        return score(
            self.bundle,
            opened,
            own,
            maps=maps,
            allow_unscored=allow_unscored,
            progress=lambda done, total: self.progress(name, done, total),
        )


@dataclass(frozen=True)
class _TableModel:
    """A table of predictions."""

    table: PredictionTable

    def opened(self, request: Request) -> AbstractContextManager[None]:
        """Nothing: a table needs no session."""
        return nullcontext()

    def cases(self, dataset: Path | None) -> CaseTable:
        return self.table.cases() if dataset is None else self.table.data_set(dataset)

    def require_classes(self, cases: CaseTable) -> None:
        """Raise DataError unless the table has the classes of the cases, in any order."""
        self.table.require_classes(cases)

    def predict(
        self, cases: CaseTable, opened: OpenedSession | None, *, maps: bool, allow_unscored: float
    ) -> tuple[Predictions, tuple[Pointing, ...]]:
        """Look the cases up; a table has no maps."""
        return self.table.predictions(cases), ()


_Model = _BundleModel | _TableModel


def _read(path: Path, progress: ImageProgress) -> _Model:
    if not path.exists():
        raise UsageError(f"there is no {path}: give a bundle NAME.xrt, or a CSV of predictions")
    return _TableModel(PredictionTable.read(path)) if path.is_file() else _BundleModel(Bundle.open(path), progress)


def _divided(table: CaseTable, request: Request) -> CaseTable:
    if request.split_file is not None and request.proportions is not None:
        raise UsageError("--split-file says exactly how the cases are divided: leave out --proportions")
    if request.split_file is not None:
        return split_by_file(table, request.split_file)
    if request.proportions is not None:
        return split_by_proportions(table, request.proportions, request.split_seed)
    return table


def _held_out(model: _Model, whole: CaseTable, part: str, request: Request) -> tuple[_Model, CaseTable] | None:
    """The cases that give thresholds, and what predicts them, if there are any."""
    if request.validation is not None:
        if isinstance(model, _TableModel) and request.validation.is_file() and request.validation.suffix != ".npz":
            other = PredictionTable.read(request.validation)
            other.require_classes(whole)
            return _TableModel(other), replace(other.cases(), task=whole.task, classes=whole.classes)
        return model, select_part(model.cases(request.validation), "all")[0]
    if request.threshold_split == "none":
        return None
    if request.threshold_split != "auto":
        if part in ("all", request.threshold_split):
            raise UsageError(
                f"part {part!r} is reported, so --threshold-split {request.threshold_split} would choose thresholds on "
                "reported cases: report another part (--split)"
            )
        return model, select_part(whole, request.threshold_split)[0]
    chosen = [i for i, case in enumerate(whole.cases) if case.split == "val"]
    if part in ("all", "val") or not chosen:
        return None
    cases = whole.subset(chosen)
    if isinstance(model, _TableModel) and not {case.key for case in cases.cases} <= set(model.table.keys):
        return None
    return model, cases


def _told_apart(first: Predictions, others: list[Predictions], paths: tuple[Path, ...]) -> tuple[Predictions, ...]:
    """The other models, each under a name of its own: its path where its name is taken."""
    taken, named = {first.model.name}, []
    for other, path in zip(others, paths, strict=True):
        name = other.model.name if other.model.name not in taken else str(path)
        taken.add(name)
        named.append(replace(other, model=replace(other.model, name=name)))
    return tuple(named)
