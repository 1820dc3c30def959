"""Figures of one walk's curve, and their means over findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from xrt.benchmarks.localisation.grouping import groups
from xrt.benchmarks.localisation.intervals import Interval, mean_intervals


def aopc(curve: Float[np.ndarray, "walks points"]) -> Float[np.ndarray, " walks"]:
    """Of every curve, the mean over steps 0..L of the drop from its first point (Samek et al. 2017)."""
    return (curve[..., :1] - curve).mean(axis=-1)


def area_under(
    curve: Float[np.ndarray, "walks points"], share: Float[np.ndarray, " points"]
) -> Float[np.ndarray, " walks"]:
    """The area under the curve over the share of the cells that are replaced, by trapezia."""
    return ((curve[..., 1:] + curve[..., :-1]) / 2 * np.diff(share)).sum(axis=-1)


@dataclass(frozen=True)
class FindingCurves:
    """What a finding's score became along every walk, in the order of its map and, averaged, in random orders.

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
    map: Interval
    random: Interval
    difference: Interval


def measures(
    paths: Sequence[str], share: Float[np.ndarray, " points"], finding: FindingCurves
) -> dict[tuple[str, str], Float[np.ndarray, " 2"]]:
    """(measure, which is better) and its value for the map's order and for random ones."""
    found = {}
    for i, path in enumerate(paths):
        if path in ("MoRF", "LeRF"):
            better = "higher" if path == "MoRF" else "lower"
            found[f"AOPC {path}, probability", better] = aopc(finding.probability[i])
            found[f"AOPC {path}, logit", better] = aopc(finding.logit[i])
        else:
            better = "higher" if path == "insertion" else "lower"
            found[f"AUC {path}, probability", better] = area_under(finding.probability[i], share)
    return found


def summarise(
    names: Sequence[str],
    paths: Sequence[str],
    counts: Int[np.ndarray, " points"],
    findings: Sequence[FindingCurves],
    *,
    seed: int = 0,
) -> list[Faithfulness]:
    """Every measure over all findings, each class of `names`, and contrasts, with intervals over images."""
    share = counts / counts[-1]
    measured = [measures(paths, share, finding) for finding in findings]
    images = np.array([f.case for f in findings], dtype=np.int64)
    rows = []
    for group in groups(names, [f.name for f in findings], [f.contrast for f in findings], {}):
        for key in measured[0] if measured else ():
            values = np.array([[*measured[i][key], measured[i][key][0] - measured[i][key][1]] for i in group.rows])
            means = mean_intervals(values.reshape(-1, 3), images[group.rows], seed=seed)
            rows.append(Faithfulness(group.kind, group.name, *key, len(group.rows), *means))
    return rows
