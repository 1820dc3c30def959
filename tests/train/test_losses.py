"""Losses against their formulas, written out by hand or taken from torchvision."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from xrt.runtime.bundle.manifest import Task
from xrt.runtime.errors import UsageError
from xrt.train.recipes.spec import LossSpec
from xrt.train.training.losses import batch_weighted, build_loss, focal, smooth

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [-1.5, 0.2, 0.1], [4.0, -3.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], dtype=torch.float64)
# Two formulas of the same number in float64: only the last digits differ.
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def test_batch_weights_are_those_of_the_paper() -> None:
    # 4 positives and 8 negatives: beta_P = 12 / 4, beta_N = 12 / 8 (arXiv 1705.02315, equation 1).
    expected = 0.0
    for logit, label in zip(LOGITS.flatten().tolist(), LABELS.flatten().tolist(), strict=True):
        probability = 1 / (1 + math.exp(-logit))
        expected -= 3 * math.log(probability) if label else 1.5 * math.log(1 - probability)
    torch.testing.assert_close(
        batch_weighted(LOGITS, LABELS), torch.tensor(expected / 12, dtype=torch.float64), **EXACT
    )


def test_a_batch_without_positives_has_a_finite_loss() -> None:
    assert torch.isfinite(batch_weighted(LOGITS, torch.zeros_like(LABELS)))


def test_focal_loss_is_torchvisions() -> None:
    expected = sigmoid_focal_loss(LOGITS, LABELS, alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(focal(LOGITS, LABELS, 2.0, exclusive=False), expected, **EXACT)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    expected = F.cross_entropy(LOGITS, LABELS)
    torch.testing.assert_close(focal(LOGITS, LABELS, 0.0, exclusive=True), expected, **EXACT)
    assert focal(LOGITS, LABELS, 2.0, exclusive=True) < expected


def test_prevalence_evens_out_the_classes() -> None:
    loss = build_loss(LossSpec(weighting="prevalence"), "multilabel", LABELS)
    weight = torch.tensor([2 / 2, 3 / 1, 3 / 1], dtype=torch.float64)
    torch.testing.assert_close(
        loss(LOGITS, LABELS), F.binary_cross_entropy_with_logits(LOGITS, LABELS, pos_weight=weight), **EXACT
    )
    exclusive = build_loss(LossSpec(weighting="prevalence"), "multiclass", LABELS)
    weight = torch.tensor([4 / (3 * 2), 4 / 3, 4 / 3], dtype=torch.float64)
    torch.testing.assert_close(
        exclusive(LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS.argmax(1), weight=weight), **EXACT
    )


def test_an_absent_class_keeps_its_weight() -> None:
    targets = LABELS.clone()
    targets[:, 1] = 0
    assert torch.isfinite(build_loss(LossSpec(weighting="prevalence"), "multilabel", targets)(LOGITS, targets))


@pytest.mark.parametrize(("task", "others"), [("multilabel", 0.05), ("multiclass", 0.1 / 3)])
def test_smoothing(task: Task, others: float) -> None:
    moved = smooth(LABELS, 0.1, task)
    assert moved[0].tolist() == pytest.approx([0.9 + others, others, others])


@pytest.mark.parametrize(
    ("spec", "task", "message"),
    [
        (
            LossSpec(kind="bce"),
            "multiclass",
            "a multiclass task cannot be trained with bce .*use cross_entropy or focal",
        ),
        (LossSpec(kind="cross_entropy"), "binary", "a binary task cannot be trained with cross_entropy"),
        (LossSpec(weighting="batch"), "multiclass", "weighting batch is for bce"),
        (LossSpec(kind="focal", weighting="prevalence"), "binary", "weighs by difficulty already"),
    ],
)
def test_losses_that_do_not_fit_the_task(spec: LossSpec, task: Task, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build_loss(spec, task, LABELS)
