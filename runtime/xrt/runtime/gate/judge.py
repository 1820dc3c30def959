"""Compares figures with limits: the verdict, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from xrt.runtime.gate.figures import Figures
from xrt.runtime.gate.limits import AT_LEAST, MIN_DECISIONS, MIN_IMAGES

Verdict = Literal["passed", "passed (synthetic only)", "failed", "insufficient"]
SYNTHETIC_ONLY: Verdict = "passed (synthetic only)"
PASSED: tuple[Verdict, ...] = ("passed", SYNTHETIC_ONLY)


def judge(
    figures: Figures,
    limits: Mapping[str, float],
    *,
    enough: bool = True,
    synthetic: bool = False,
    objections: Sequence[str] = (),
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and, unless it passed, the reasons: each names the figure, its value and its limit.

    `enough` says that MIN_IMAGES different images and MIN_DECISIONS decisions are needed, and maps and logits of the
    reference that change with the image: without them nothing is proved. `synthetic` says that all images are phantoms:
    a model may find nothing in these that is near a threshold, so every decision counts, and the verdict says what it
    rests on. `objections` are reasons to refuse that are not among the figures.
    """
    reasons: list[str] = list(objections)
    if not figures.finite:
        reasons.append("an output holds NaN or infinity")
    if not figures.maps_vary:
        reasons.append("the heatmaps do not change with the image")
    if not figures.logits_vary:
        reasons.append("the logits do not change with the image")
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
    if enough and (reasons := _unproved(figures, synthetic)):
        return "insufficient", tuple(reasons)
    return (SYNTHETIC_ONLY if synthetic else "passed"), ()


def _unproved(figures: Figures, synthetic: bool) -> list[str]:
    """What the images do not suffice for, or the reference's outputs cannot prove."""
    reasons = []
    if figures.different_images < MIN_IMAGES:
        reasons.append(
            f"{figures.different_images} different images are insufficient evidence, {MIN_IMAGES} are needed"
        )
    decisions, which = (figures.comparisons, "") if synthetic else (figures.decisions, " that could be another")
    if decisions < MIN_DECISIONS:
        reasons.append(
            f"{decisions} decisions on different images{which} are insufficient evidence, {MIN_DECISIONS} are needed"
        )
    if not figures.reference_varies:
        reasons.append("heatmaps are not proved: the model's own are zero, or the same on every image")
    elif figures.map_correlation is None:
        reasons.append("heatmaps are not proved: the model's own are one number, all over the image")
    if not figures.reference_logits_vary:
        reasons.append("logits are not proved: the model's own are the same on every image")
    return reasons
