"""The figures of every class, with their intervals, and their means over the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from xrt.benchmarks.evaluation.measure.calibration import BINS, centred, equal_width, expected_error
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.statistics import UNDEFINED, Estimate, Resamples, percentile, ranking, wilson

RESAMPLED = ("auroc", "average_precision", "f1", "brier", "ece")
"""The figures whose intervals are the bootstrap's, of one class too."""


@dataclass(frozen=True)
class Figures:
    """All figures of one class against the rest, or their means over the classes.

    Ranking: `auroc`, `average_precision`. At the operating threshold: `accuracy` to `f1`; `npv` is the negative
    predictive value. Of the probabilities: `brier` (Brier 1950), `ece` in equal-width bins.
    """

    auroc: Estimate
    average_precision: Estimate
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    precision: Estimate
    npv: Estimate
    f1: Estimate
    brier: Estimate
    ece: Estimate


@dataclass(frozen=True)
class ClassFigures:
    """One class. `positives` and `negatives` count images, `threshold` is None where the argmax decides.

    `true_positives` to `true_negatives` are the confusion matrix at the threshold.
    """

    name: str
    positives: int
    negatives: int
    threshold: float | None
    temperature: float
    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int
    figures: Figures


@dataclass(frozen=True)
class FiguresByClass:
    """Figures by class, their means, and `accuracy`: of images for a multiclass task, else the mean of the classes."""

    classes: tuple[ClassFigures, ...]
    mean: Figures
    accuracy: Estimate


def measure_classes(predictions: Predictions, resamples: Resamples) -> FiguresByClass:
    """Measure every class at the predictions' own decisions.

    AUROC, average precision, F1, Brier score and ECE have percentile intervals of `resamples`; fractions of images have
    Wilson's. A mean is over the classes that have the figure, and is resampled jointly.
    """
    truth, decided, patient = predictions.truth, predictions.decisions, predictions.patient
    columns, resampled = [], []
    for j, name in enumerate(predictions.names):
        yes, called = truth[:, j], decided[:, j]
        draws = _draws(yes, called, predictions.probability[:, j], resamples)
        points = _points(yes, called, predictions.probability[:, j])
        draws["ece"] = centred(points["ece"], draws["ece"])
        figures = Figures(
            **{key: percentile(points[key], draws[key]) for key in RESAMPLED},
            accuracy=wilson(yes == called, np.ones_like(yes), patient),
            sensitivity=wilson(called, yes, patient),
            specificity=wilson(~called, ~yes, patient),
            precision=wilson(yes, called, patient),
            npv=wilson(~yes, ~called, patient),
        )
        columns.append(
            ClassFigures(
                name=name,
                positives=int(yes.sum()),
                negatives=int((~yes).sum()),
                threshold=None if predictions.task == "multiclass" else predictions.thresholds[j],
                temperature=predictions.temperatures[j],
                true_positives=int((yes & called).sum()),
                false_positives=int((~yes & called).sum()),
                false_negatives=int((yes & ~called).sum()),
                true_negatives=int((~yes & ~called).sum()),
                figures=figures,
            )
        )
        resampled.append(draws)
    mean = Figures(
        **{
            key: mean_of([getattr(c.figures, key) for c in columns], [draws[key] for draws in resampled])
            for key in Figures.__dataclass_fields__
        }
    )
    accuracy = mean.accuracy
    if predictions.task == "multiclass":
        accuracy = wilson(predictions.right, np.ones(len(truth), dtype=bool), patient)
    return FiguresByClass(tuple(columns), mean, accuracy)


def mean_of(estimates: list[Estimate], resampled: list[Float[np.ndarray, " r"]]) -> Estimate:
    """The mean of the figures that are defined, with the interval of the mean in every resample."""
    defined = [(e, draws) for e, draws in zip(estimates, resampled, strict=True) if e.value is not None]
    if len(defined) < 2:
        return defined[0][0] if defined else UNDEFINED
    values = [e.value for e, _ in defined if e.value is not None]
    return percentile(float(np.mean(values)), np.mean([draws for _, draws in defined], axis=0))


def _points(yes: Bool[np.ndarray, " n"], called: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"]) -> dict:
    area, average = ranking(yes, p)
    rest = {key: float(value[0]) for key, value in _ratios(yes, called, p, Resamples.original(len(yes))).items()}
    return {**rest, "auroc": area, "average_precision": average}


def _draws(
    yes: Bool[np.ndarray, " n"], called: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], resamples: Resamples
) -> dict[str, Float[np.ndarray, " r"]]:
    area, average = resamples.rankings(yes, p)
    return {**_ratios(yes, called, p, resamples), "auroc": area, "average_precision": average}


def _ratios(
    yes: Bool[np.ndarray, " n"], called: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], resamples: Resamples
) -> dict[str, Float[np.ndarray, " r"]]:
    """The figures that are ratios of sums, in every resample; NaN where there is nothing to count."""
    bins = equal_width(p, BINS)
    cells = np.column_stack([yes & called, ~yes & called, yes & ~called, ~yes & ~called, (p - yes) ** 2])
    tp, fp, fn, tn, error = resamples.sums(cells).T
    total = tp + fp + fn + tn
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "accuracy": (tp + tn) / total,
            "sensitivity": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "precision": tp / (tp + fp),
            "npv": tn / (tn + fn),
            "f1": np.where(tp + fn > 0, 2 * tp / (2 * tp + fp + fn), np.nan),
            "brier": error / total,
            "ece": expected_error(resamples, yes, p, bins),
        }
