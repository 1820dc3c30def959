"""Figures of a trained model on one split. Needs torchmetrics (extra `lightning`)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from xrt.runtime.bundle.manifest import Task


def probabilities(logits: Float[Tensor, "n logits"], task: Task) -> Float[Tensor, "n logits"]:
    """Softmax for a multiclass task, otherwise sigmoid, in float64."""
    return logits.double().softmax(1) if task == "multiclass" else logits.double().sigmoid()


def auroc_by_class(probability: Float[Tensor, "n logits"], targets: Float[Tensor, "n logits"]) -> list[float | None]:
    """Area under the ROC curve of every column against the rest; None where a class has only one kind of case."""
    areas: list[float | None] = []
    for scores, target in zip(probability.T, targets.T.long(), strict=True):
        both = 0 < int(target.sum()) < len(target)
        areas.append(float(binary_auroc(scores, target)) if both else None)
    return areas


def mean_of_known(figures: list[float | None]) -> float | None:
    """The mean over the classes that have a figure; None if none has."""
    values = [figure for figure in figures if figure is not None]
    return sum(values) / len(values) if values else None


def figures(
    probability: Float[Tensor, "n logits"],
    targets: Float[Tensor, "n logits"],
    names: tuple[str, ...],
    thresholds: tuple[float, ...] | None,
) -> dict[str, Any]:
    """AUROC overall and by class and, at the operating thresholds (argmax if None), accuracy, sensitivity, specificity.

    `names` and `thresholds` follow the columns. A fraction of nothing is None. `accuracy` overall is that of
    (image, class) pairs, or of images for argmax.
    """
    truth = targets.bool()
    findings = findings_at(probability, thresholds)
    accuracy = float(accuracy_of(findings, truth, "multiclass" if thresholds is None else "multilabel"))
    areas = auroc_by_class(probability, targets)
    by_class = {
        name: {
            "auroc": areas[j],
            "accuracy": _fraction(findings[:, j] == truth[:, j]),
            "sensitivity": _fraction(findings[truth[:, j], j]),
            "specificity": _fraction(~findings[~truth[:, j], j]),
            "images": int(truth[:, j].sum()),
        }
        for j, name in enumerate(names)
    }
    return {"images": len(truth), "auroc": mean_of_known(areas), "accuracy": accuracy, "classes": by_class}


def monitored_figures(
    probability: Float[Tensor, "n logits"], targets: Float[Tensor, "n logits"], task: Task, columns: list[int]
) -> dict[str, float | None]:
    """The figures that compare epochs: mean AUROC, recall, precision and F1 of `columns`, and accuracy of all.

    Decisions are at 0.5, or the argmax for a multiclass task; operating thresholds are chosen after training. A class
    without the cases that a figure needs is left out of its mean; None if no class is left.
    """
    findings = findings_at(probability, training_thresholds(task, probability.shape[1]))
    truth = targets.bool()
    recalls, precisions, f1s = [], [], []
    for j in columns:
        hits = int((findings[:, j] & truth[:, j]).sum())
        present, calls = int(truth[:, j].sum()), int(findings[:, j].sum())
        recalls.append(hits / present if present else None)
        precisions.append(hits / calls if calls else None)
        f1s.append(2 * hits / (present + calls) if present else None)
    areas = auroc_by_class(probability[:, columns], targets[:, columns])
    return {
        "auroc": mean_of_known(areas),
        "accuracy": float(accuracy_of(findings, truth, task)),
        "recall": mean_of_known(recalls),
        "precision": mean_of_known(precisions),
        "f1": mean_of_known(f1s),
    }


def findings_at(
    probability: Float[Tensor, "n logits"], thresholds: tuple[float, ...] | None
) -> Bool[Tensor, "n logits"]:
    """Which (image, class) pairs are findings: at or above the thresholds, the argmax where there are none."""
    if thresholds is None:
        return torch.nn.functional.one_hot(probability.argmax(1), probability.shape[1]).bool()
    return probability >= torch.tensor(thresholds, dtype=torch.float64, device=probability.device)


def training_thresholds(task: Task, logits: int) -> tuple[float, ...] | None:
    """The thresholds during training: 0.5, or none for a multiclass task."""
    return None if task == "multiclass" else (0.5,) * logits


def accuracy_of(findings: Bool[Tensor, "n logits"], truth: Bool[Tensor, "n logits"], task: Task) -> Float[Tensor, ""]:
    """The fraction of correct decisions: of images for a multiclass task, else of (image, class) pairs."""
    correct = (findings & truth).any(1) if task == "multiclass" else findings == truth
    return correct.double().mean()


def _fraction(hits: Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None
