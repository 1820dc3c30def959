"""Figures by view, sex and age band: what the mean over everybody hides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xrt.benchmarks.evaluation.estimates import UNDEFINED, Estimate, percentile, wilson
from xrt.benchmarks.evaluation.predictions import Predictions
from xrt.benchmarks.evaluation.resampling import Resamples, ranking
from xrt.runtime.cases import Case

MIN_IMAGES = 10
"""A share of fewer images, or an AUROC with fewer of either kind, is not defined: its interval would say nothing."""
AGE_BANDS = ((0, 17), (18, 39), (40, 64), (65, 200))
"""Years, both ends included: children, and adults in three bands."""
_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Subgroup:
    """One class among the images of one group. `by` is view, sex or age, in years."""

    by: str
    group: str
    name: str
    images: int
    positives: int
    prevalence: float
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate


def measure_subgroups(predictions: Predictions, resamples: Resamples) -> tuple[Subgroup, ...]:
    """Every class in every group; nothing for what is not recorded of any case, or is the same for all."""
    rows = []
    for by, value_of in _GROUPINGS.items():
        value = np.array([value_of(case) or _UNKNOWN for case in predictions.table.cases])
        groups = sorted(set(value), key=_order)
        if len(groups) < 2:
            continue
        for group in groups:
            rows += _rows(by, group, value == group, predictions, resamples)
    return tuple(rows)


def _rows(by: str, group: str, chosen: np.ndarray, predictions: Predictions, resamples: Resamples) -> list[Subgroup]:
    drawn, patient = resamples.of(chosen), predictions.patient[chosen]
    rows = []
    for j, name in enumerate(predictions.names):
        yes, called = predictions.truth[chosen, j], predictions.decisions[chosen, j]
        scores = predictions.probability[chosen, j]
        positives, negatives = int(yes.sum()), int((~yes).sum())
        enough = min(positives, negatives) >= MIN_IMAGES
        rows.append(
            Subgroup(
                by=by,
                group=group,
                name=name,
                images=len(yes),
                positives=positives,
                prevalence=positives / len(yes),
                auroc=percentile(ranking(yes, scores)[0], drawn.rankings(yes, scores)[0]) if enough else UNDEFINED,
                sensitivity=wilson(called, yes, patient) if positives >= MIN_IMAGES else UNDEFINED,
                specificity=wilson(~called, ~yes, patient) if negatives >= MIN_IMAGES else UNDEFINED,
            )
        )
    return rows


def _age_band(case: Case) -> str | None:
    for low, high in AGE_BANDS:
        if case.age is not None and low <= case.age <= high:
            return f"{low} and over" if high == AGE_BANDS[-1][1] else f"{low}–{high}"
    return None


def _order(group: str) -> tuple[bool, int, str]:
    """By age where the groups are bands, then by name, what is not recorded last."""
    digits = group.split("–")[0].split(" ")[0]
    return group == _UNKNOWN, int(digits) if digits.isdecimal() else -1, group


_GROUPINGS: dict[str, Callable[[Case], str | None]] = {
    "view": lambda case: case.view,
    "sex": lambda case: case.sex,
    "age": _age_band,
}
