"""Confusion matrices and the classification report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sklearn.metrics import classification_report, confusion_matrix

from xrt.benchmarks.evaluation.measure.predictions import Predictions


@dataclass(frozen=True)
class Confusion:
    """Images by truth (rows) and decision (columns), both in the order of `labels`."""

    title: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ReportLine:
    """A line of scikit-learn's classification report; None where nothing was called positive, or nothing is."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int


def confusions(predictions: Predictions) -> tuple[Confusion, ...]:
    """One k × k matrix for a multiclass model, else a 2 × 2 matrix for every class."""
    truth, decided = predictions.truth, predictions.decisions
    if predictions.task == "multiclass":
        has_class = truth.any(axis=1)
        labels = list(range(len(predictions.names)))
        counts = confusion_matrix(truth[has_class].argmax(axis=1), decided[has_class].argmax(axis=1), labels=labels)
        return (Confusion("all classes", predictions.names, _plain(counts)),)
    matrices = []
    for j, name in enumerate(predictions.names):
        counts = confusion_matrix(truth[:, j], decided[:, j], labels=[False, True])
        labels = predictions.table.classes if predictions.task == "binary" else ("absent", "present")
        matrices.append(Confusion(name, labels, _plain(counts)))
    return tuple(matrices)


def report_lines(predictions: Predictions) -> tuple[ReportLine, ...]:
    """Precision, recall and F1 of every class and their averages, by scikit-learn."""
    truth, decided, names = predictions.truth, predictions.decisions, predictions.names
    if predictions.task == "multiclass":
        has_class = truth.any(axis=1)
        truth, decided = truth[has_class].argmax(axis=1), decided[has_class].argmax(axis=1)
    elif len(names) == 1:
        truth, decided = truth[:, 0].astype(int), decided[:, 0].astype(int)
        first = predictions.table.classes[0] if predictions.task == "binary" else f"no {names[0]}"
        names = (first, *names)
    # Numbers in place of names: a class may be called "macro avg".
    numbers = [str(k) for k in range(len(names))]
    # With output_dict=True it gives a dictionary; its stub leaves that open, and knows "warn" alone for zero_division.
    report = cast(
        "dict[str, Any]",
        classification_report(
            truth,
            decided,
            labels=range(len(names)),
            target_names=numbers,
            output_dict=True,
            zero_division=np.nan,  # pyright: ignore[reportArgumentType]
        ),
    )
    return tuple(
        ReportLine(
            name=names[int(key)] if key in numbers else key,
            precision=_defined(row["precision"]),
            recall=_defined(row["recall"]),
            f1=_defined(row["f1-score"]),
            images=int(row["support"]),
        )
        for key, row in report.items()
        if key != "samples avg" and isinstance(row, dict)
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _plain(counts: np.ndarray) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(int(n) for n in row) for row in counts)
