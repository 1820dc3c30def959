"""The choice of logits that the heatmaps explain."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ExplainedLogits:
    """Which logits the maps explain: those at the indices `classes`, or the `top_k` highest of each image.

    `signs` holds +1 for every logit, or -1 where the map explains its absence (the negative class of a one-logit
    model).
    """

    signs: tuple[float, ...]
    classes: tuple[int, ...] | None = None
    top_k: int | None = None
