"""How a ratio of two times is measured on a noisy machine.

The contenders run in one process, in random order each round, so that a drift of the machine's speed hits all of
them alike; a ratio is the median of the rounds' own ratios, with a bootstrap interval. An A/A control, the same
contender entered twice, shows what the protocol makes of no difference at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

ROUNDS = 60
MIN_ROUNDS = 3
_RESAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """A ratio of paired times with its 95 % bootstrap interval."""

    point: float
    low: float
    high: float
    rounds: int

    def within(self, bound: float) -> bool:
        """Whether a claim "≤ bound" holds: the interval reaches it and the point exceeds it by at most 0.02."""
        return self.low <= bound and self.point <= bound + 0.02

    def __str__(self) -> str:
        digits = 3 if self.point < 10 else 1
        return f"{self.point:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def race(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, budget_s: float = 60.0, seed: int = 0
) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """Time the contenders in paired rounds; returns seconds by name.

    After one warm-up each, as many of `rounds` are run as fit into `budget_s`, but no fewer than MIN_ROUNDS.
    """
    pilot = 0.0
    for run in contenders.values():
        run()
        pilot += _seconds(run)
    rounds = int(np.clip(budget_s / max(pilot, 1e-9), MIN_ROUNDS, rounds))
    names = list(contenders)
    times = {name: np.empty(rounds) for name in names}
    rng = np.random.default_rng(seed)
    for i in range(rounds):
        for name in rng.permutation(names):
            times[name][i] = _seconds(contenders[name])
    return times


def ratio(a: Float64[np.ndarray, " rounds"], b: Float64[np.ndarray, " rounds"], *, seed: int = 0) -> Ratio:
    """How many times as long a takes as b: the median over rounds of a / b."""
    paired = a / b
    picks = np.random.default_rng(seed).integers(0, len(paired), (_RESAMPLES, len(paired)))
    medians = np.median(paired[picks], axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return Ratio(float(np.median(paired)), float(low), float(high), len(paired))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
