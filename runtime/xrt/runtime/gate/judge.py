"""Compares figures with limits: the verdict, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from xrt.runtime.gate.figures import Figures
from xrt.runtime.gate.limits import AT_LEAST, MIN_DECISIONS

Verdict = Literal["passed", "failed", "insufficient"]


def judge(
    figures: Figures, limits: Mapping[str, float], *, min_decisions: int = MIN_DECISIONS, different: float = 1.0
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and, unless it passed, the reasons: each names the figure, its value and its limit.

    `different` is the fraction of the images, 0..1, that repeat none before them; decisions on repeats are no evidence.
    """
    reasons: list[str] = []
    if not figures.finite:
        reasons.append("an output holds NaN or infinity")
    if not figures.maps_vary:
        reasons.append("the heatmaps do not change with the image")
    values = figures.as_dict()
    for name, limit in limits.items():
        value = values[name]
        if value is None:
            continue
        holds = value >= limit if name in AT_LEAST else value <= limit
        if not holds:  # a NaN compares false, so it fails
            reasons.append(f"{name} is {value:.3g}, the limit is {limit:g}")
    if reasons:
        return "failed", tuple(reasons)
    if (decisions := round(figures.decisions * different)) < min_decisions:
        on = "" if different == 1 else " on different images"
        return "insufficient", (f"{decisions} decisions{on} are insufficient evidence, {min_decisions} are needed",)
    return "passed", ()
