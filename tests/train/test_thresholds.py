"""Youden thresholds: on midpoints, best J, and no answer where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrt.train.thresholds import youden_threshold


def youden(scores: np.ndarray, positive: np.ndarray, threshold: float) -> float:
    called = scores >= threshold
    return float(called[positive].mean() - called[~positive].mean())


def test_a_worked_case() -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    positive = np.array([0, 0, 1, 0, 1, 1])
    # J is 2/3 at 0.25 (all positives, one false alarm) and at 0.65 (one missed, none false): the wider gap
    # wins.
    assert youden_threshold(scores, positive) in (pytest.approx(0.25), pytest.approx(0.65))
    assert youden_threshold(np.array([0.1, 0.2, 0.4, 0.6, 0.65, 0.9]), positive) == pytest.approx(0.3)


def test_perfect_separation_takes_the_middle_of_the_gap() -> None:
    assert youden_threshold(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1])) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("scores", "positive"),
    [([0.1, 0.2], [0, 0]), ([0.1, 0.2], [1, 1]), ([0.5, 0.5], [0, 1]), ([0.1, 0.9], [1, 0])],
    ids=["no positives", "no negatives", "one score", "reversed"],
)
def test_no_answer(scores: list[float], positive: list[int]) -> None:
    assert youden_threshold(np.array(scores), np.array(positive)) is None


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60))
def test_no_score_lies_on_it_and_none_is_better(cases: list[tuple[int, bool]]) -> None:
    scores = np.array([score / 20 for score, _ in cases])
    positive = np.array([truth for _, truth in cases])
    threshold = youden_threshold(scores, positive)
    if threshold is None:
        return
    assert not np.isin(threshold, scores)
    midpoints = np.unique(scores)
    best = max(youden(scores, positive, t) for t in (midpoints[1:] + midpoints[:-1]) / 2)
    assert youden(scores, positive, threshold) == pytest.approx(best)  # shares of at most 60: rounding alone
