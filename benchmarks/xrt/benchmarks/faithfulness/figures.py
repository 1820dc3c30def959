"""Figures of perturbation curves, and their means over findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from xrt.benchmarks.localisation.groups import group_findings
from xrt.benchmarks.statistics import Estimate, mean_estimates


def aopc(curve: Float[np.ndarray, "*walks points"]) -> Float[np.ndarray, "*walks"]:
    """Of every curve, the mean over steps 0..L of the drop from its first point (Samek et al. 2017)."""
    return (curve[..., :1] - curve).mean(axis=-1)


def area_under(
    curve: Float[np.ndarray, "*walks points"], fraction: Float[np.ndarray, " points"]
) -> Float[np.ndarray, "*walks"]:
    """The area under the curve over the fraction of the cells that are replaced, by the trapezoidal rule."""
    return ((curve[..., 1:] + curve[..., :-1]) / 2 * np.diff(fraction)).sum(axis=-1)


@dataclass(frozen=True)
class FindingCurves:
    """A finding's score along every walk, in the order of its map and, averaged, in random orders.

    `probability` and `logit` are of the explained class: [paths, 2 (map, random), points].
    """

    case: int
    name: str
    contrast: float | None
    probability: Float[np.ndarray, "paths 2 points"]
    logit: Float[np.ndarray, "paths 2 points"]


@dataclass(frozen=True)
class Faithfulness:
    """One measure over `count` findings; `difference` is paired, of the map's order over random ones."""

    kind: str
    name: str
    measure: str
    better: str
    count: int
    map: Estimate
    random: Estimate
    difference: Estimate


def stacked(
    findings: Sequence[FindingCurves], paths: int, points: int
) -> tuple[Float[np.ndarray, "n paths 2 points"], Float[np.ndarray, "n paths 2 points"]]:
    """Probabilities and logits of all findings, of which there may be none."""
    shape = -1, paths, 2, points
    probability, logit = ([getattr(f, name) for f in findings] for name in ("probability", "logit"))
    return np.array(probability).reshape(shape), np.array(logit).reshape(shape)


def measures(
    paths: Sequence[str],
    fraction: Float[np.ndarray, " points"],
    probability: Float[np.ndarray, "n paths 2 points"],
    logit: Float[np.ndarray, "n paths 2 points"],
) -> dict[tuple[str, str], Float[np.ndarray, "n 2"]]:
    """(measure, which is better) and its values for the maps' orders and for random ones."""
    values = {}
    for i, path in enumerate(paths):
        if path in ("MoRF", "LeRF"):
            better = "higher" if path == "MoRF" else "lower"
            values[f"AOPC {path}, probability", better] = aopc(probability[:, i])
            values[f"AOPC {path}, logit", better] = aopc(logit[:, i])
        else:
            better = "higher" if path == "insertion" else "lower"
            values[f"AUC {path}, probability", better] = area_under(probability[:, i], fraction)
    return values


def summarise(
    names: Sequence[str],
    paths: Sequence[str],
    counts: Int[np.ndarray, " points"],
    findings: Sequence[FindingCurves],
    *,
    seed: int = 0,
) -> list[Faithfulness]:
    """Every measure over all findings, each class of `names`, and contrasts, with intervals over images.

    Without a finding it is not defined.
    """
    all_values = measures(paths, counts / counts[-1], *stacked(findings, len(paths), len(counts)))
    images = np.array([f.case for f in findings], dtype=np.int64)
    rows = []
    for group in group_findings(names, findings, {}):
        for key, values in all_values.items():
            pairs = values[group.rows]
            columns = np.column_stack([pairs, pairs[:, 0] - pairs[:, 1]])
            means = mean_estimates(columns, images[group.rows], seed=seed)
            rows.append(Faithfulness(group.kind, group.name, *key, len(group.rows), *means))
    return rows
