"""How faithfulness is measured."""

from __future__ import annotations

from dataclasses import dataclass

from xrt.benchmarks.faithfulness.perturbations import Perturbation
from xrt.runtime.errors import UsageError


@dataclass(frozen=True)
class FaithfulnessOptions:
    """How faithfulness is measured.

    `sigma` is the deviation of `noise` as a fraction of the grey range; `steps` bounds the steps of a walk (a cell at a
    time where the grid has fewer); `correct_only` leaves out findings that the labels do not name; `least_first` adds
    LeRF; `random_orders` is the number of random orders per image; `cams` names the map output (None: the first).
    """

    perturbation: Perturbation = "noise"
    sigma: float = 0.1
    steps: int = 16
    correct_only: bool = False
    least_first: bool = False
    random_orders: int = 2
    cams: str | None = None
    seed: int = 0
    batch_size: int = 32
    allow_unscored: float = 0.05

    def __post_init__(self) -> None:
        """Raise UsageError for values out of range."""
        if not 0 < self.sigma <= 1:
            raise UsageError(f"sigma is a fraction of the grey range, above 0 and at most 1, not {self.sigma:g}")
        if self.steps < 2 or self.random_orders < 1:
            raise UsageError(
                f"a walk has 2 steps or more and 1 random order or more, not {self.steps} and {self.random_orders}"
            )
