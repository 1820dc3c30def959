"""From paths to an evaluation: which model, which cases, which validation cases, which other models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from xrt.benchmarks.evaluation.measure.acceptance import require_classes
from xrt.benchmarks.evaluation.measure.assess import assess
from xrt.benchmarks.evaluation.measure.evaluation_record import (
    DEFAULT_OPTIONS,
    Evaluation,
    EvaluationOptions,
    EvaluationRecord,
)
from xrt.benchmarks.evaluation.measure.prediction_table import PredictionTable
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.evaluation.measure.selection import (
    CasePart,
    Part,
    require_other_patients,
    select_part,
    split_by_file,
    split_by_proportions,
)
from xrt.benchmarks.evaluation.measure.thresholds import require_applicable
from xrt.benchmarks.evaluation.models import BundleModel, Model, TableModel
from xrt.benchmarks.evaluation.score import score
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.datasets import CaseTable
from xrt.runtime.errors import UsageError
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.session import OpenedSession

ThresholdPart = Literal["auto", "train", "val", "test", "none"]


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate. A model is a bundle NAME.xrt or a CSV of predictions; so is each of `compare`.

    `split_file`, or `proportions` with `split_seed`, say how training divided the data set; the publishers' parts are
    taken otherwise. `validation` is of the model's own kind: a data set for a bundle; for a table another table, or a
    data set whose images the table has too. Without it `threshold_split` names a part of the data set; `auto` is its
    validation part, if it has one that is not reported. `trust` is the public key that must have signed every bundle.
    `allow_unscored` is the fraction of images, 0..1, that may be unreadable.
    """

    model: Path
    dataset: Path | None = None
    compare: tuple[Path, ...] = ()
    split: Part = "auto"
    proportions: tuple[float, float, float] | None = None
    split_seed: int = 0
    split_file: Path | None = None
    validation: Path | None = None
    threshold_split: ThresholdPart = "auto"
    backend: str = "auto"
    precision: str = "auto"
    trust: Path | None = None
    allow_unscored: float = 0.05
    options: EvaluationOptions = DEFAULT_OPTIONS


def evaluate(request: EvaluationRequest, *, progress: Progress = SILENT) -> tuple[Evaluation, EvaluationRecord]:
    """Evaluate what a request names. Raises UsageError, DataError, BundleError or BackendError."""
    options, allow_unscored = request.options, request.allow_unscored
    model, *others = (_model(path, request, progress) for path in (request.model, *request.compare))
    whole = _divided(model.cases(request.dataset), request)
    cases, part = select_part(whole, request.split)
    validation = _validation_cases(model, whole, part, request)
    # Scoring may take an hour: what can be refused before it, is.
    require_applicable(cases.task, options.rule, options.temperature, validated=validation is not None)
    require_classes(options.requirements, cases.logit_classes)
    for other in others:
        other.require_classes(cases)
    if validation is not None:
        require_other_patients(cases, validation.cases)
    with model.opened() as predictor:
        predictions, pointing = predictor.predict(cases, maps=True, allow_unscored=allow_unscored)
        validation_predictions = None
        if validation is not None:
            source = validation.table or predictor
            validation_predictions, _ = source.predict(validation.cases, maps=False, allow_unscored=allow_unscored)
    # Models are compared on the same cases: what the first could not read is not given to the others.
    unscored = {u.index for u in predictions.unscored}
    cases = cases.subset(i for i in range(len(cases)) if i not in unscored)
    other_predictions = []
    for other in others:
        with other.opened() as predictor:
            other_predictions.append(predictor.predict(cases, maps=False, allow_unscored=0.0)[0])
    return assess(
        predictions,
        part,
        validation=validation_predictions,
        others=_with_distinct_names(predictions, other_predictions, request.compare),
        pointing=pointing,
        options=options,
        progress=progress,
    )


def evaluate_session(
    opened: OpenedSession,
    reported: CasePart,
    *,
    validation: CaseTable | None = None,
    options: EvaluationOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> tuple[Evaluation, EvaluationRecord]:
    """Score the cases and compute every figure; localisation too where cases have boxes. Raises DataError."""
    predictions, pointing = score(opened, reported.table, progress=progress)
    of_validation = None if validation is None else score(opened, validation, maps=False, progress=progress)[0]
    return assess(
        predictions, reported.part, validation=of_validation, pointing=pointing, options=options, progress=progress
    )


def _model(path: Path, request: EvaluationRequest, progress: Progress) -> Model:
    if not path.exists():
        raise UsageError(f"there is no {path}: give a bundle NAME.xrt, or a CSV of predictions")
    if path.is_file():
        return TableModel(PredictionTable.read(path))
    return BundleModel(Bundle.open(path, trust=request.trust), request.backend, request.precision, progress)


def _divided(table: CaseTable, request: EvaluationRequest) -> CaseTable:
    if request.split_file is not None and request.proportions is not None:
        raise UsageError("--split-file says exactly how the cases are divided: leave out --proportions")
    if request.split_file is not None:
        return split_by_file(table, request.split_file)
    if request.proportions is not None:
        return split_by_proportions(table, request.proportions, request.split_seed)
    return table


@dataclass(frozen=True)
class _ValidationCases:
    """The cases that give thresholds. `table` predicts them; where it is None, the evaluated model does."""

    cases: CaseTable
    table: TableModel | None = None


def _validation_cases(model: Model, whole: CaseTable, part: str, request: EvaluationRequest) -> _ValidationCases | None:
    if request.validation is not None:
        if isinstance(model, TableModel) and request.validation.is_file() and request.validation.suffix != ".npz":
            table = PredictionTable.read(request.validation)
            table.require_classes(whole)
            return _ValidationCases(replace(table.cases(), task=whole.task, classes=whole.classes), TableModel(table))
        return _ValidationCases(select_part(model.cases(request.validation), "all").table)
    if request.threshold_split == "none":
        return None
    if request.threshold_split != "auto":
        if part in ("all", request.threshold_split):
            raise UsageError(
                f"part {part!r} is reported, so --threshold-split {request.threshold_split} would choose thresholds on "
                "reported cases: report another part (--split)"
            )
        return _ValidationCases(select_part(whole, request.threshold_split).table)
    rows = [i for i, case in enumerate(whole.cases) if case.split == "val"]
    if part in ("all", "val") or not rows:
        return None
    cases = whole.subset(rows)
    if isinstance(model, TableModel) and not {case.key for case in cases.cases} <= set(model.table.keys):
        return None
    return _ValidationCases(cases)


def _with_distinct_names(
    first: Predictions, others: Sequence[Predictions], paths: Sequence[Path]
) -> tuple[Predictions, ...]:
    """The other models, each under a name of its own: its path where its name is taken."""
    names, renamed = {first.model.name}, []
    for other, path in zip(others, paths, strict=True):
        name = other.model.name if other.model.name not in names else str(path)
        names.add(name)
        renamed.append(replace(other, model=replace(other.model, name=name)))
    return tuple(renamed)
