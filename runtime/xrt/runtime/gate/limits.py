"""The limits that a variant of each precision must keep, and the judgement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from xrt.runtime.bundle.manifest import Precision
from xrt.runtime.gate.figures import Figures

MIN_DECISIONS = 300
"""Under this many decisions, zero flips still allow 1 % at 95 % confidence: that is no evidence."""

HALF_PEAK = 65504 / 4
"""A quarter of the largest fp16 number. Execution on a CPU, which computes in fp32, cannot show an overflow."""

LIMITS: dict[Precision, dict[str, float]] = {
    "fp32": {
        "logit_error": 1e-4,
        "probability_change_max": 1e-4,
        "flips": 0.0,
        "auroc_drop": 1e-4,
        "map_correlation": 0.999,
        "map_difference": 1e-3,
    },
    "fp16": {
        "logit_error": 5e-3,
        "probability_change_max": 0.005,
        "flips": 0.001,
        "auroc_drop": 0.001,
        "map_correlation": 0.99,
        "map_difference": 0.02,
        "peak": HALF_PEAK,
    },
    "int8": {
        "probability_change_p95": 0.03,
        "probability_change_max": 0.10,
        "flips": 0.01,
        "auroc_drop": 0.005,
        "map_correlation": 0.90,
        "map_difference": 0.25,
    },
}
AT_LEAST = frozenset({"map_correlation"})
"""Figures that must reach their limit; the others must not exceed theirs."""

Verdict = Literal["passed", "failed", "insufficient"]


def judge(
    figures: Figures, limits: Mapping[str, float], *, min_decisions: int = MIN_DECISIONS, different: float = 1.0
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and, unless it passed, the reasons: each names the figure, its value and its limit.

    `different` is the share of the images, 0..1, that repeat none before them; decisions on repeats are no evidence.
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
