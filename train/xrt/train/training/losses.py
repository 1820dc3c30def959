"""Losses of logits [n, logits] and targets 0 or 1 of the same shape (one-hot for a multiclass task)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from xrt.runtime.bundle.manifest import Task
from xrt.runtime.errors import UsageError
from xrt.train.recipes.spec import LossSpec

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(spec: LossSpec, task: Task, targets: Float[Tensor, "n logits"]) -> Loss:
    """The mean loss of a batch; `targets` are those of the whole training part, for weighting by prevalence.

    Raises UsageError for a loss that the task does not have.
    """
    kind = spec.kind or ("cross_entropy" if task == "multiclass" else "bce")
    exclusive = task == "multiclass"
    if exclusive != (kind == "cross_entropy") and kind != "focal":
        fits = "cross_entropy or focal" if exclusive else "bce or focal"
        raise UsageError(f"a {task} task cannot be trained with {kind} (loss.kind); use {fits}")
    if exclusive and spec.weighting == "batch":
        raise UsageError("loss.weighting batch is for bce; use prevalence for a multiclass task")
    if kind == "focal" and spec.weighting != "none":
        raise UsageError("the focal loss weighs by difficulty already; leave loss.weighting at none")
    if kind == "focal":
        return lambda logits, truth: focal(logits, truth, spec.gamma, exclusive=exclusive)
    if exclusive:
        counts = targets.sum(dim=0).clamp(min=1)
        weight = len(targets) / (len(counts) * counts) if spec.weighting == "prevalence" else None
        return lambda logits, truth: F.cross_entropy(logits, truth, weight=_like(weight, logits))
    if spec.weighting == "batch":
        return batch_weighted
    positives = targets.sum(dim=0)
    # A class that no image has, or every one, keeps its weight: there is nothing to balance.
    odds = torch.where((positives > 0) & (positives < len(targets)), (len(targets) - positives) / positives, 1.0)
    weight = odds if spec.weighting == "prevalence" else None
    return lambda logits, truth: F.binary_cross_entropy_with_logits(logits, truth, pos_weight=_like(weight, logits))


def smooth(targets: Float[Tensor, "n logits"], amount: float, task: Task) -> Float[Tensor, "n logits"]:
    """Targets moved by `amount`, a fraction, towards equal probability of all answers."""
    return targets * (1 - amount) + amount / (targets.shape[1] if task == "multiclass" else 2)


def batch_weighted(logits: Float[Tensor, "n logits"], targets: Float[Tensor, "n logits"]) -> Float[Tensor, ""]:
    """Binary cross-entropy where positives and negatives of a batch weigh the same (W-CEL, arXiv 1705.02315, eq. 1).

    Over all classes together, P positive and N negative labels weigh (P + N) / P and (P + N) / N.
    """
    positives = targets.sum()
    negatives = targets.numel() - positives
    weight = torch.where(
        targets > 0.5, targets.numel() / positives.clamp(min=1), targets.numel() / negatives.clamp(min=1)
    )
    return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)


def focal(
    logits: Float[Tensor, "n logits"], targets: Float[Tensor, "n logits"], gamma: float, *, exclusive: bool
) -> Float[Tensor, ""]:
    """Cross-entropy times (1 - p)^gamma, p the probability of the right answer (Lin et al., arXiv 1708.02002).

    For a multiclass task (`exclusive`) p is the softmax's, and the mean is over images, else over all logits.
    """
    if exclusive:
        logs = F.log_softmax(logits, dim=1)
        return -((1 - logs.exp()) ** gamma * targets * logs).sum(dim=1).mean()
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probability = logits.sigmoid()
    wrong = probability * (1 - targets) + (1 - probability) * targets
    return (wrong**gamma * loss).mean()


def _like(weight: Tensor | None, logits: Tensor) -> Tensor | None:
    return None if weight is None else weight.to(logits)
