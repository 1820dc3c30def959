"""Figures by view, sex and age band, and on phantoms by contrast: what the mean over all patients hides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xrt.benchmarks.contrasts import band_of, contrast_of, read_contrasts
from xrt.benchmarks.evaluation.measure.figures import mean_of
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.statistics import UNDEFINED, Estimate, Resamples, percentile, ranking, wilson
from xrt.runtime.datasets import Case

MIN_IMAGES = 10
"""A fraction of fewer images, or an AUROC with fewer of either kind, is not defined: its interval means little."""
AGE_BANDS = ((0, 17), (18, 39), (40, 64), (65, 200))
"""Years, both ends included: children, and adults in three bands."""
MEAN = "mean of the classes"
_UNKNOWN = "not recorded"
_ANY = ""


@dataclass(frozen=True)
class Subgroup:
    """One class, or their mean, among the images of one group. `by` is view, sex, age (in years) or contrast.

    A contrast is one of lesions: its group has the images that show the class with this contrast, and all that do not
    show it.
    """

    by: str
    group: str
    name: str
    images: int
    positives: int
    prevalence: float | None
    auroc: Estimate
    sensitivity: Estimate
    specificity: Estimate


def measure_subgroups(predictions: Predictions, resamples: Resamples) -> tuple[Subgroup, ...]:
    """Every class and their mean in every group; nothing for what is not recorded of any case, or is the same for all.

    Raises DataError for a table of contrasts that cannot be read.
    """
    rows = []
    for by, value_of in _GROUPINGS.items():
        value = np.array([value_of(case) or _UNKNOWN for case in predictions.table.cases])
        rows += _subgroups(by, np.repeat(value[:, None], len(predictions.names), axis=1), predictions, resamples)
    return tuple(rows + _subgroups("contrast", _contrasts(predictions), predictions, resamples))


def _contrasts(predictions: Predictions) -> np.ndarray:
    """The band of every case's lesion of every class; `_ANY` where a case does not have it."""
    contrasts = read_contrasts(predictions.table.root)
    if not contrasts:
        return np.full(predictions.truth.shape, _ANY, dtype=object)
    bands = [
        [band_of(contrast_of(contrasts, case.key, name)) or _UNKNOWN for name in predictions.names]
        for case in predictions.table.cases
    ]
    return np.where(predictions.truth, np.array(bands, dtype=object), _ANY)


def _subgroups(by: str, value: np.ndarray, predictions: Predictions, resamples: Resamples) -> list[Subgroup]:
    """Figures by `value`, [images, classes]; an image of value `_ANY` belongs to every group of the class."""
    groups = sorted(set(value.ravel()) - {_ANY}, key=_order)
    rows = []
    for group in groups if len(groups) > 1 else ():
        member = (value == group) | (value == _ANY)
        results = [_subgroup(by, group, j, member[:, j], predictions, resamples) for j in range(member.shape[1])]
        rows += [row for row, _ in results]
        if len(results) > 1:
            rows.append(_mean(by, group, int(member.any(axis=1).sum()), results))
    return rows


def _subgroup(
    by: str, group: str, j: int, member: np.ndarray, predictions: Predictions, resamples: Resamples
) -> tuple[Subgroup, dict[str, np.ndarray]]:
    """One class in one group, and its figures in every resample."""
    of_group, patient = resamples.of(member), predictions.patient[member]
    yes, called = predictions.truth[member, j], predictions.decisions[member, j]
    scores = predictions.probability[member, j]
    positives, negatives = int(yes.sum()), int((~yes).sum())
    hits, present, spared, absent = of_group.sums(np.column_stack([yes & called, yes, ~yes & ~called, ~yes])).T
    with np.errstate(invalid="ignore"):
        draws = {"sensitivity": hits / present, "specificity": spared / absent}
    draws["auroc"] = of_group.rankings(yes, scores)[0]
    enough = min(positives, negatives) >= MIN_IMAGES
    row = Subgroup(
        by=by,
        group=group,
        name=predictions.names[j],
        images=len(yes),
        positives=positives,
        prevalence=positives / len(yes) if len(yes) else None,
        auroc=percentile(ranking(yes, scores)[0], draws["auroc"]) if enough else UNDEFINED,
        sensitivity=wilson(called, yes, patient) if positives >= MIN_IMAGES else UNDEFINED,
        specificity=wilson(~called, ~yes, patient) if negatives >= MIN_IMAGES else UNDEFINED,
    )
    return row, draws


def _mean(by: str, group: str, images: int, results: list[tuple[Subgroup, dict[str, np.ndarray]]]) -> Subgroup:
    """The means of the classes that have the figure, resampled jointly; counts are of all classes together."""
    rows = [row for row, _ in results]
    return Subgroup(
        by=by,
        group=group,
        name=MEAN,
        images=images,
        positives=sum(row.positives for row in rows),
        prevalence=float(np.mean([row.prevalence for row in rows if row.prevalence is not None])),
        **{
            figure: mean_of([getattr(row, figure) for row in rows], [draws[figure] for _, draws in results])
            for figure in ("auroc", "sensitivity", "specificity")
        },
    )


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
