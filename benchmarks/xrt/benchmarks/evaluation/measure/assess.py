"""Every figure of a model's predictions. Needs no torch."""

from __future__ import annotations

from typing import Any

from xrt.benchmarks.evaluation.measure.acceptance import judge
from xrt.benchmarks.evaluation.measure.calibration import fit_temperatures, measure_calibration
from xrt.benchmarks.evaluation.measure.comparison import compare_models
from xrt.benchmarks.evaluation.measure.confusion import confusions, report_lines
from xrt.benchmarks.evaluation.measure.evaluation_record import (
    DEFAULT_OPTIONS,
    Evaluation,
    EvaluationOptions,
    EvaluationRecord,
)
from xrt.benchmarks.evaluation.measure.figures import measure_classes
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.evaluation.measure.selection import require_apart
from xrt.benchmarks.evaluation.measure.subgroups import measure_subgroups
from xrt.benchmarks.evaluation.measure.thresholds import apply_rules, operating_points
from xrt.benchmarks.localisation import Pointing
from xrt.benchmarks.statistics import Resamples
from xrt.runtime.errors import DataError
from xrt.runtime.progress import SILENT, Progress


def assess(
    predictions: Predictions,
    part: str,
    *,
    validation: Predictions | None = None,
    others: tuple[Predictions, ...] = (),
    pointing: tuple[Pointing, ...] = (),
    options: EvaluationOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> tuple[Evaluation, EvaluationRecord]:
    """Every figure of predictions, of a bundle or of a table.

    `validation` are the same model's on other cases, `others` other models' on the same ones. Raises DataError when
    there is no case, when reported and validation cases overlap, or when models' classes differ; UsageError when the
    options need validation cases and there are none.
    """
    if not len(predictions.table):
        raise DataError(f"{predictions.table.name} has no cases: there is nothing to evaluate")
    if validation is not None:
        require_apart(predictions, validation)
    reported = apply_rules(predictions, validation, options.rule, options.temperature)
    resamples = Resamples.draw(reported.predictions.patient, options.resamples, options.seed)
    progress.count(0, None, "figures by class")
    figures = measure_classes(reported.predictions, resamples)
    acceptance = judge(options.requirements, figures) if options.requirements else None
    progress.count(0, None, "operating points and calibration")
    fitted = None if validation is None else predictions.with_temperatures(fit_temperatures(validation))
    evaluation = Evaluation(
        **_description(reported.predictions, part, validation, options),
        classes=figures.classes,
        mean=figures.mean,
        accuracy=figures.accuracy,
        operating=operating_points(reported, resamples, options.rule),
        confusions=confusions(reported.predictions),
        report_lines=report_lines(reported.predictions),
        calibration=measure_calibration(predictions, resamples),
        recalibrated=() if fitted is None else measure_calibration(fitted, resamples),
        subgroups=measure_subgroups(reported.predictions, resamples),
        comparisons=tuple(compare_models(reported.predictions, other, resamples) for other in others),
        pointing=pointing,
        acceptance=acceptance,
    )
    return evaluation, EvaluationRecord(predictions, reported, fitted, others)


def _description(
    predictions: Predictions, part: str, validation: Predictions | None, options: EvaluationOptions
) -> dict[str, Any]:
    """What was evaluated, on which cases, by which rules."""
    if predictions.task == "multiclass":
        rule = "the highest class"
    elif options.rule is not None:
        rule = f"{options.rule}, on validation cases"
    else:
        rule = "thresholds of 0.5" if predictions.model.opened is None else "the model's own thresholds"
    if options.temperature:
        rule += ", after temperatures fitted on validation cases"
    return {
        "model": predictions.model.name,
        "model_sha256": predictions.model.sha256,
        "executed": predictions.model.executed,
        "dataset": predictions.table.name,
        "part": part,
        "images": len(predictions.table),
        "patients": int(predictions.patient.max()) + 1,
        "unscored": predictions.unscored,
        "validation": None if validation is None else f"{validation.table.name}, {len(validation.table)} images",
        "rule": rule,
        "resamples": options.resamples,
        "seed": options.seed,
    }
