"""Operating thresholds, chosen on the validation part."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from xrt.runtime.bundle.manifest import ClassSpec
from xrt.runtime.datasets import CaseTable
from xrt.runtime.thresholds import youden_threshold

_log = logging.getLogger("xrt.train")


def classes_with_thresholds(
    cases: CaseTable, groups: Mapping[str, tuple[str, ...]], probability: Tensor, targets: Tensor
) -> tuple[ClassSpec, ...]:
    """Classes with their labels and operating thresholds by validation; 0.5, with a warning, where it gives none."""
    if cases.task == "multiclass":
        return tuple(ClassSpec(name=name, threshold=None, labels=groups.get(name)) for name in cases.classes)
    thresholds: dict[str, float] = {}
    for column, name in enumerate(cases.logit_classes):
        threshold = youden_threshold(probability[:, column].numpy(), targets[:, column].numpy())
        if threshold is None:
            _log.warning("%s: the validation part gives no operating threshold; 0.5 is used", name)
        else:
            thresholds[name] = threshold
    # The first class of a binary model has no logit; its entry keeps the default and has no effect.
    return tuple(
        ClassSpec(name=name, threshold=thresholds.get(name, 0.5), labels=groups.get(name)) for name in cases.classes
    )


def thresholds_of(cases: CaseTable, classes: tuple[ClassSpec, ...]) -> tuple[float, ...] | None:
    """The operating threshold of every logit; None for a multiclass task, which decides by argmax."""
    if cases.task == "multiclass":
        return None
    with_logit = classes[1:] if cases.task == "binary" else classes
    return tuple(c.threshold for c in with_logit if c.threshold is not None)
