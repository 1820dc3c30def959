"""Figures of a trained model on one split. Needs torchmetrics (extra `lightning`)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
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


def mean_auroc(areas: list[float | None]) -> float | None:
    """The mean over the classes that have an area."""
    known = [area for area in areas if area is not None]
    return sum(known) / len(known) if known else None


def figures(
    probability: Float[Tensor, "n logits"],
    targets: Float[Tensor, "n logits"],
    names: tuple[str, ...],
    thresholds: tuple[float, ...] | None,
) -> dict[str, Any]:
    """AUROC overall and by class and, at the operating thresholds (argmax if None), accuracy, sensitivity, specificity.

    `names` and `thresholds` follow the columns. A share with nothing to count is None. `accuracy` overall is
    that of (image, class) pairs, or of images for argmax.
    """
    truth = targets.bool()
    if thresholds is None:
        called = torch.nn.functional.one_hot(probability.argmax(1), probability.shape[1]).bool()
        accuracy = float((called & truth).any(1).double().mean())
    else:
        called = probability >= torch.tensor(thresholds, dtype=torch.float64)
        accuracy = float((called == truth).double().mean())
    areas = auroc_by_class(probability, targets)
    by_class = {
        name: {
            "auroc": areas[j],
            "accuracy": _share(called[:, j] == truth[:, j]),
            "sensitivity": _share(called[truth[:, j], j]),
            "specificity": _share(~called[~truth[:, j], j]),
            "images": int(truth[:, j].sum()),
        }
        for j, name in enumerate(names)
    }
    return {"images": len(truth), "auroc": mean_auroc(areas), "accuracy": accuracy, "classes": by_class}


def _share(hits: Tensor) -> float | None:
    return float(hits.double().mean()) if len(hits) else None
