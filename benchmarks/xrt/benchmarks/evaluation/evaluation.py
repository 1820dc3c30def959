"""An evaluation: what a model says about labelled cases, and every figure of it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from xrt.benchmarks.evaluation.acceptance import Acceptance, Requirement, judge
from xrt.benchmarks.evaluation.calibration import Calibration, fit_temperatures, measure_calibration
from xrt.benchmarks.evaluation.comparison import Comparison, compare_models
from xrt.benchmarks.evaluation.confusion import Confusion, ReportLine, confusions, report_lines
from xrt.benchmarks.evaluation.estimates import Estimate
from xrt.benchmarks.evaluation.figures import ClassFigures, Figures, Measured, measure_classes
from xrt.benchmarks.evaluation.predictions import Predictions
from xrt.benchmarks.evaluation.resampling import Resamples
from xrt.benchmarks.evaluation.selection import require_apart
from xrt.benchmarks.evaluation.subgroups import Subgroup, measure_subgroups
from xrt.benchmarks.evaluation.thresholds import OperatingPoint, Ruled, decide_anew, operating_points
from xrt.benchmarks.localisation import Pointing, pointing_game
from xrt.benchmarks.scoring import Unscored, score_cases
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.errors import DataError
from xrt.runtime.opening import OpenedSession
from xrt.runtime.operating import OperatingRule

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """How an evaluation is made.

    `rule` and `temperature` make new thresholds and temperatures from the validation cases, under which everything is
    reported. `resamples` is how many the bootstrap draws, from `seed`.
    """

    rule: OperatingRule | None = None
    temperature: bool = False
    resamples: int = 1000
    seed: int = 0
    requirements: tuple[Requirement, ...] = ()


@dataclass(frozen=True)
class Study:
    """What was evaluated: predictions as the model came, under the reported rules, and other models' of these cases.

    `fitted` are those of the model with temperatures fitted on the validation cases, if there are any.
    """

    original: Predictions
    ruled: Ruled
    fitted: Predictions | None = None
    others: tuple[Predictions, ...] = ()

    @property
    def predictions(self) -> Predictions:
        """What is reported."""
        return self.ruled.predictions


@dataclass(frozen=True)
class Evaluation:
    """All figures of a model on one table of cases.

    `unscored` are images that could not be scored and are in no figure. `temperatures` is the calibration after fitting
    on the validation cases, empty without them; `validation` names these; `rule` says where the thresholds come from.
    """

    model: str
    model_sha256: str | None
    executed: str
    dataset: str
    part: str
    images: int
    patients: int
    unscored: tuple[Unscored, ...]
    validation: str | None
    rule: str
    resamples: int
    seed: int
    classes: tuple[ClassFigures, ...]
    mean: Figures
    accuracy: Estimate
    operating: tuple[OperatingPoint, ...]
    confusions: tuple[Confusion, ...]
    report_lines: tuple[ReportLine, ...]
    calibration: tuple[Calibration, ...]
    recalibrated: tuple[Calibration, ...]
    subgroups: tuple[Subgroup, ...]
    comparisons: tuple[Comparison, ...]
    pointing: tuple[Pointing, ...]
    acceptance: Acceptance | None

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data; what is not defined is None."""
        return {**asdict(self), "verdicts": [comparison.verdict for comparison in self.comparisons]}


def evaluate(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    part: str,
    *,
    validation: CaseTable | None = None,
    options: Options = Options(),
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, Study]:
    """Score the cases and compute every figure; localisation too where cases have boxes. Raises DataError."""
    predictions, pointing = score(bundle, opened, table, progress=progress)
    held_out = None if validation is None else score(bundle, opened, validation, maps=False)[0]
    return assess(predictions, part, validation=held_out, pointing=pointing, options=options)


def score(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = True,
    allow_unscored: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> tuple[Predictions, tuple[Pointing, ...]]:
    """What a bundle says about every case and, with `maps`, the pointing game where cases have boxes.

    Raises DataError when the classes differ, or when a larger share than `allow_unscored` cannot be scored.
    """
    explained, spec = bundle.manifest.graph.explained, bundle.manifest.preprocessing
    boxed = maps and explained is not None and any(case.boxes for case in table.cases)
    scores = score_cases(bundle, opened, table, maps=boxed, allow_unscored=allow_unscored, progress=progress)
    predictions = Predictions.of_scores(bundle, opened, scores)
    pointing = pointing_game(scores, predictions.decisions, explained, spec) if boxed and explained else []
    return predictions, tuple(pointing)


def assess(
    predictions: Predictions,
    part: str,
    *,
    validation: Predictions | None = None,
    others: tuple[Predictions, ...] = (),
    pointing: tuple[Pointing, ...] = (),
    options: Options = Options(),
    progress: Callable[[str], None] = lambda step: None,
) -> tuple[Evaluation, Study]:
    """Every figure of predictions, whoever made them.

    `validation` are the same model's on other cases, `others` other models' on the same ones. Raises DataError when
    there is no case, when reported and validation cases overlap, or when models' classes differ; UsageError when the
    options need validation cases and there are none.
    """
    if not len(predictions.table):
        raise DataError(f"{predictions.table.name} has no cases: there is nothing to evaluate")
    if validation is not None:
        require_apart(predictions, validation)
    ruled = decide_anew(predictions, validation, options.rule, options.temperature)
    reported = ruled.predictions
    resamples = Resamples.draw(reported.patient, options.resamples, options.seed)
    progress("figures by class")
    measured = measure_classes(reported, resamples)
    acceptance = judge(options.requirements, measured) if options.requirements else None
    progress("operating points and calibration")
    fitted = None if validation is None else predictions.with_temperatures(fit_temperatures(validation))
    evaluation = Evaluation(
        **_described(reported, part, validation, options),
        **_parts(measured),
        operating=operating_points(ruled, resamples, options.rule),
        confusions=confusions(reported),
        report_lines=report_lines(reported),
        calibration=measure_calibration(predictions, resamples),
        recalibrated=() if fitted is None else measure_calibration(fitted, resamples),
        subgroups=measure_subgroups(reported, resamples),
        comparisons=tuple(compare_models(reported, other, resamples) for other in others),
        pointing=pointing,
        acceptance=acceptance,
    )
    return evaluation, Study(predictions, ruled, fitted, others)


def _parts(measured: Measured) -> dict[str, Any]:
    return {"classes": measured.classes, "mean": measured.mean, "accuracy": measured.accuracy}


def _described(predictions: Predictions, part: str, validation: Predictions | None, options: Options) -> dict[str, Any]:
    if predictions.task == "multiclass":
        rule = "the highest class"
    else:
        own = "thresholds of 0.5" if predictions.model.bundle is None else "the model's own thresholds"
        rule = own if options.rule is None else f"{options.rule}, on validation cases"
    if options.temperature:
        rule += ", after temperatures fitted on validation cases"
    held_out = None if validation is None else f"{validation.table.name}, {len(validation.table)} images"
    return {
        "model": predictions.model.name,
        "model_sha256": predictions.model.sha256,
        "executed": predictions.model.executed,
        "dataset": predictions.table.name,
        "part": part,
        "images": len(predictions.table),
        "patients": int(predictions.patient.max()) + 1,
        "unscored": predictions.unscored,
        "validation": held_out,
        "rule": rule,
        "resamples": options.resamples,
        "seed": options.seed,
    }
