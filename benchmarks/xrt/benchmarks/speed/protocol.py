"""How a ratio of two times is measured on a noisy machine.

The contenders run in one process, in random order each round, so that a drift of the machine's speed affects all of
them alike; a ratio is the median of the rounds' own ratios, with a bootstrap interval (`statistics.ratio`). An A/A
control, the same contender twice, shows what the protocol measures where there is no difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float64

ROUNDS = 60
MIN_ROUNDS = 3


def race(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = ROUNDS, budget_s: float = 60.0, seed: int = 0
) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """Time the contenders in paired rounds; returns seconds by name.

    After one warm-up each, as many of `rounds` are run as fit into `budget_s`, but no fewer than MIN_ROUNDS.
    """
    pilot = 0.0
    for contender in contenders.values():
        contender()
        pilot += _seconds(contender)
    rounds = int(np.clip(budget_s / max(pilot, 1e-9), MIN_ROUNDS, rounds))
    names = list(contenders)
    times = {name: np.empty(rounds) for name in names}
    rng = np.random.default_rng(seed)
    for i in range(rounds):
        for name in rng.permutation(names):
            times[name][i] = _seconds(contenders[name])
    return times


def _seconds(contender: Callable[[], object]) -> float:
    start = time.perf_counter()
    contender()
    return time.perf_counter() - start
