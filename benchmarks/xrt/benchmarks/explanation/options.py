"""The options of `explain`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xrt.runtime.errors import UsageError

Heatmaps = Literal["positive", "all", "none"]


@dataclass(frozen=True)
class ExplainOptions:
    """What is drawn.

    `heatmaps` says of which classes an image's heatmap becomes a file; `classes` names those to explain (empty: all
    that have maps); `top_k` bounds each list of cases; `alphas` are opacities in 0..1; `examples` is the number of
    images drawn in every way; `allow_unscored` the fraction of images, 0..1, that may be unreadable.
    """

    heatmaps: Heatmaps = "positive"
    classes: tuple[str, ...] = ()
    top_k: int = 100
    alphas: tuple[float, ...] = (0.2, 0.4, 0.6)
    examples: int = 8
    batch_size: int = 16
    allow_unscored: float = 0.05
    backend: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Raise UsageError for values out of range."""
        for alpha in self.alphas:
            if not 0 < alpha <= 1:
                raise UsageError(f"an opacity α lies above 0 and at most at 1, not {alpha:g}")
        if self.top_k < 1 or self.examples < 0:
            raise UsageError(f"top_k must be 1 or more and examples 0 or more, not {self.top_k} and {self.examples}")
