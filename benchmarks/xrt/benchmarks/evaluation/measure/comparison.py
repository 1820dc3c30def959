"""Two models on the same cases: paired differences, where they disagree, and what an upgrade would change."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from xrt.benchmarks.evaluation.measure.figures import mean_of
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.statistics import UNDEFINED, Estimate, Resamples, percentile, ranking, wilson
from xrt.runtime.errors import DataError


@dataclass(frozen=True)
class ClassComparison:
    """One class under two models. Differences are the other model's figure less the first one's.

    `gained` are positive for the other model alone, `lost` for the first alone; `mended` decisions were wrong and
    become right, `broken` ones the other way round. `kappa` is Cohen's (1960), of the two models' decisions.
    """

    name: str
    auroc: float | None
    other_auroc: float | None
    auroc_difference: Estimate
    gained: int
    lost: int
    mended: int
    broken: int
    kappa: float | None


@dataclass(frozen=True)
class Comparison:
    """A comparison of `other` with the reported model. `changed` is the fraction of images whose decisions differ."""

    model: str
    other: str
    other_sha256: str | None
    other_executed: str
    images: int
    changed: Estimate
    mean_auroc_difference: Estimate
    classes: tuple[ClassComparison, ...]

    @property
    def verdict(self) -> str:
        """What would change, in sentences."""
        totals = {key: sum(getattr(c, key) for c in self.classes) for key in ("gained", "lost", "mended", "broken")}
        count = round((self.changed.value or 0.0) * self.images)
        if not count:
            changes = f"every decision on these {self.images} images would stay as it is."
        else:
            changes = (
                f"decisions would change for {count} of {self.images} images "
                f"({_percent(self.changed)}): {totals['gained']} findings more, {totals['lost']} fewer; "
                f"{totals['mended']} decisions become right, {totals['broken']} become wrong."
            )
        difference = self.mean_auroc_difference
        if difference.value is None:
            ranking_says = "A difference in AUROC is not defined."
        elif difference.low is None or difference.high is None:
            ranking_says = f"Its AUROC differs by {difference:+z.4f}." if difference.value else "Its AUROC is the same."
        else:
            clear = (
                "shows no difference"
                if difference.low <= 0 <= difference.high
                else ("is higher" if difference.value > 0 else "is lower")
            )
            ranking_says = (
                f"Its AUROC {clear} ({difference.value:+z.4f}, 95 % interval {difference.low:+z.4f} to "
                f"{difference.high:+z.4f})."
            )
        return f"If {self.other} replaced {self.model}, {changes} {ranking_says}"


def compare_models(predictions: Predictions, other: Predictions, resamples: Resamples) -> Comparison:
    """Compare two models' rankings and decisions, case by case. Raises DataError when their classes differ."""
    exclusive = {each.task == "multiclass" for each in (predictions, other)}
    if set(predictions.names) != set(other.names) or len(exclusive) > 1:
        raise DataError(
            f"{other.model.name} ({other.task}: {', '.join(other.names)}) and {predictions.model.name} "
            f"({predictions.task}: {', '.join(predictions.names)}) do not have the same classes: compare models of one "
            "task"
        )
    columns = [other.names.index(name) for name in predictions.names]
    differences, draws, rows = [], [], []
    for j, (name, k) in enumerate(zip(predictions.names, columns, strict=True)):
        truth = predictions.truth[:, j]
        before, after = predictions.probability[:, j], other.probability[:, k]
        first, second = ranking(truth, before)[0], ranking(truth, after)[0]
        resampled = resamples.rankings(truth, after)[0] - resamples.rankings(truth, before)[0]
        difference = UNDEFINED if first is None or second is None else percentile(second - first, resampled)
        was, becomes = predictions.decisions[:, j], other.decisions[:, k]
        differences.append(difference)
        draws.append(resampled)
        rows.append(
            ClassComparison(
                name=name,
                auroc=first,
                other_auroc=second,
                auroc_difference=difference,
                gained=int((~was & becomes).sum()),
                lost=int((was & ~becomes).sum()),
                mended=int(((was != truth) & (becomes == truth)).sum()),
                broken=int(((was == truth) & (becomes != truth)).sum()),
                kappa=cohens_kappa(was, becomes),
            )
        )
    differ = (predictions.decisions != other.decisions[:, columns]).any(axis=1)
    return Comparison(
        model=predictions.model.name,
        other=other.model.name,
        other_sha256=other.model.sha256,
        other_executed=other.model.executed,
        images=len(differ),
        changed=wilson(differ, np.ones(len(differ), dtype=bool), predictions.patient),
        mean_auroc_difference=mean_of(differences, draws),
        classes=tuple(rows),
    )


def cohens_kappa(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> float | None:
    """Agreement beyond chance, (p_o - p_e) / (1 - p_e); not defined where chance alone agrees always."""
    observed = float((one == other).mean())
    chance = float(one.mean() * other.mean() + (1 - one.mean()) * (1 - other.mean()))
    return None if chance >= 1 else (observed - chance) / (1 - chance)


def write_disagreements(path: Path, predictions: Predictions, others: Sequence[Predictions]) -> None:
    """Every (image, class) pair that two models decide differently, as CSV, one row a pair and other model."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["image", "class", "label", "model", "probability", "positive", "other", "other_probability",
             "other_positive"]
        )  # fmt: skip
        for other in others:
            columns = [other.names.index(name) for name in predictions.names]
            for i, j in np.argwhere(predictions.decisions != other.decisions[:, columns]):
                k = columns[j]
                writer.writerow(
                    [
                        predictions.table.cases[i].key,
                        predictions.names[j],
                        int(predictions.truth[i, j]),
                        predictions.model.name,
                        f"{predictions.probability[i, j]:.9g}",
                        int(predictions.decisions[i, j]),
                        other.model.name,
                        f"{other.probability[i, k]:.9g}",
                        int(other.decisions[i, k]),
                    ]
                )


def _percent(fraction: Estimate) -> str:
    if fraction.value is None or fraction.low is None or fraction.high is None:
        return "not defined"
    return f"{100 * fraction.value:.1f} %, 95 % interval {100 * fraction.low:.1f} to {100 * fraction.high:.1f}"
