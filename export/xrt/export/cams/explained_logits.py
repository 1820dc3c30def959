"""The choice of logits that the heatmaps explain."""

from __future__ import annotations

from dataclasses import dataclass

from xrt.runtime.errors import UsageError


@dataclass(frozen=True)
class ExplainedLogits:
    """Which logits the maps explain: those at the indices `classes`, or the `top_k` highest of each image.

    `signs` holds +1 for every logit, or -1 where the map explains its absence (the negative class of a one-logit
    model).
    """

    signs: tuple[float, ...]
    classes: tuple[int, ...] | None = None
    top_k: int | None = None


def parse_top_k(classes: str, logits: int) -> int | None:
    """K of `top:K`; None for other text. Raises UsageError for a K that is no number from 1 to `logits`."""
    if not classes.startswith("top:"):
        return None
    number = classes.removeprefix("top:")
    if not number.isdecimal() or not 1 <= int(number) <= logits:
        raise UsageError(f"--classes top:K takes K from 1 to {logits}, the number of logits; given {classes!r}")
    return int(number)
