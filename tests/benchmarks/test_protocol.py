from __future__ import annotations

import numpy as np
import pytest

from xrt.benchmarks.speed.protocol import race
from xrt.benchmarks.statistics import Ratio, ratio


def test_a_ratio_is_that_of_pairs_not_of_medians():
    """The machine halves its speed half way: medians of the two contenders would mix both halves."""
    rng = np.random.default_rng(0)
    drift = np.repeat([1.0, 2.0], 30)
    a = 1.5 * drift * (1 + 0.01 * rng.normal(size=60))
    b = drift * (1 + 0.01 * rng.normal(size=60))
    speed = ratio(a, b)
    assert speed.point == pytest.approx(1.5, abs=0.01)
    assert speed.low <= 1.5 <= speed.high
    assert speed.high - speed.low < 0.02
    assert speed.rounds == 60


@pytest.mark.parametrize(
    ("point", "low", "holds"), [(1.02, 1.01, True), (1.045, 1.02, True), (1.06, 1.02, False), (1.045, 1.035, False)]
)
def test_a_claim_needs_point_and_interval(point, low, holds):
    assert Ratio(point, low, point + 0.1, 60).within(1.03) is holds


def test_contenders_run_in_random_order_equally_often():
    order = []
    times = race({name: lambda name=name: order.append(name) for name in "ab"}, rounds=40)
    assert {name: len(t) for name, t in times.items()} == {"a": 40, "b": 40}
    rounds = ["".join(order[i : i + 2]) for i in range(4, len(order), 2)]
    assert 8 < rounds.count("ab") < 32


def test_a_budget_shortens_a_race_but_not_below_three():
    import time

    times = race({"slow": lambda: time.sleep(0.02)}, rounds=60, budget_s=0.0)
    assert len(times["slow"]) == 3
