"""Operating thresholds chosen on validation cases, beside 0.5 and the model's own, measured on the reported ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xrt.benchmarks.evaluation.measure.calibration import fit_temperatures
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.statistics import UNDEFINED, Estimate, Resamples, percentile, wilson
from xrt.runtime.bundle.manifest import Task
from xrt.runtime.errors import UsageError
from xrt.runtime.thresholds import ThresholdRule

RULES = tuple(map(ThresholdRule.parse, ("youden", "f1", "sensitivity:0.95", "specificity:0.95")))
"""What every report shows."""


@dataclass(frozen=True)
class OperatingPoint:
    """One class at one threshold. `rule` says where the threshold comes from; without one nothing is defined."""

    name: str
    rule: str
    threshold: float | None
    accuracy: Estimate = UNDEFINED
    sensitivity: Estimate = UNDEFINED
    specificity: Estimate = UNDEFINED
    precision: Estimate = UNDEFINED
    npv: Estimate = UNDEFINED
    f1: Estimate = UNDEFINED


@dataclass(frozen=True)
class ReportedPredictions:
    """Predictions under the reported rules, the model's own thresholds, and the validation cases under the same rules.

    The own thresholds are those for the reported temperatures.
    """

    predictions: Predictions
    own_thresholds: tuple[float | None, ...]
    validation: Predictions | None


def require_applicable(task: Task, rule: ThresholdRule | None, temperature: bool, *, validated: bool) -> None:
    """Raise UsageError for a rule or temperatures without validation cases, and for a rule where the argmax decides.

    `validated` says whether there are validation cases.
    """
    if (rule is not None or temperature) and not validated:
        raise UsageError(
            "thresholds and temperatures are chosen on validation cases, never on the reported ones: give them with "
            "--validation DATASET|PREDICTIONS or --threshold-split PART"
        )
    if rule is not None and task == "multiclass":
        raise UsageError(
            "a multiclass model decides by its highest class and has no thresholds: leave --thresholds out"
        )


def apply_rules(
    predictions: Predictions, validation: Predictions | None, rule: ThresholdRule | None, temperature: bool
) -> ReportedPredictions:
    """Fit temperatures first, if asked for, then choose thresholds by `rule`, if given; both on `validation` alone.

    A class keeps its own threshold where the rule gives none. Raises UsageError without validation cases, and for a
    rule where the argmax decides.
    """
    require_applicable(predictions.task, rule, temperature, validated=validation is not None)
    if validation is not None and temperature:
        fitted = fit_temperatures(validation)
        predictions, validation = predictions.with_temperatures(fitted), validation.with_temperatures(fitted)
    own = predictions.thresholds
    if validation is not None and rule is not None:
        new = [rule.threshold(p, yes) for p, yes in zip(validation.probability.T, validation.truth.T, strict=True)]
        thresholds = tuple(before if after is None else after for before, after in zip(own, new, strict=True))
        predictions, validation = predictions.with_thresholds(thresholds), validation.with_thresholds(thresholds)
    return ReportedPredictions(predictions, own, validation)


def operating_points(
    reported: ReportedPredictions, resamples: Resamples, rule: ThresholdRule | None
) -> tuple[OperatingPoint, ...]:
    """Every class at its own threshold, at 0.5 and, with validation cases, at what each rule chooses on them.

    Empty for a multiclass task, which has no thresholds.
    """
    predictions, validation = reported.predictions, reported.validation
    if predictions.task == "multiclass":
        return ()
    rules = [*RULES, *([rule] if rule is not None and rule not in RULES else [])] if validation is not None else []
    points = []
    for j, name in enumerate(predictions.names):
        thresholds = {"the model's own": reported.own_thresholds[j]} if predictions.model.opened is not None else {}
        thresholds["0.5"] = 0.5
        if validation is not None:
            scores, truth = validation.probability[:, j], validation.truth[:, j]
            thresholds |= {str(r): r.threshold(scores, truth) for r in rules}
        points += [_with_figures(OperatingPoint(name, r, t), predictions, j, resamples) for r, t in thresholds.items()]
    return tuple(points)


def _with_figures(point: OperatingPoint, predictions: Predictions, j: int, resamples: Resamples) -> OperatingPoint:
    if point.threshold is None:
        return point
    yes, called = predictions.truth[:, j], predictions.probability[:, j] >= point.threshold
    patient, everything = predictions.patient, np.ones(len(yes), dtype=bool)
    return replace(
        point,
        accuracy=wilson(yes == called, everything, patient),
        sensitivity=wilson(called, yes, patient),
        specificity=wilson(~called, ~yes, patient),
        precision=wilson(yes, called, patient),
        npv=wilson(~yes, ~called, patient),
        f1=_f1(yes, called, resamples),
    )


def _f1(yes: np.ndarray, called: np.ndarray, resamples: Resamples) -> Estimate:
    if not yes.any():
        return UNDEFINED
    hits, sizes = resamples.sums(np.column_stack([2.0 * (yes & called), yes * 1.0 + called])).T
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = np.where(sizes > 0, hits / sizes, np.nan)
    return percentile(float(2 * (yes & called).sum() / (yes.sum() + called.sum())), draws)
