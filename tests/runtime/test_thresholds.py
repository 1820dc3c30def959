"""Operating thresholds: on midpoints, the best of all candidates, and None where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from xrt.runtime.errors import UsageError
from xrt.runtime.thresholds import (
    ThresholdRule,
    f1_threshold,
    sensitivity_threshold,
    specificity_threshold,
    youden_threshold,
)


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


CASES = st.lists(st.tuples(st.integers(0, 20), st.booleans()), min_size=2, max_size=60)


def arrays(cases: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, truth, and every midpoint."""
    scores = np.array([score / 20 for score, _ in cases])
    values = np.unique(scores)
    return scores, np.array([truth for _, truth in cases]), (values[1:] + values[:-1]) / 2


@given(CASES, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_a_fixed_sensitivity_is_reached_with_the_best_specificity(cases, target) -> None:
    scores, positive, midpoints = arrays(cases)
    threshold = sensitivity_threshold(scores, positive, target)
    if not positive.any() or positive.all():
        assert threshold is None
        return
    spared = [
        (scores[~positive] < t).mean() for t in midpoints if (scores[positive] >= t).mean() >= target - 1e-12
    ]  # shares of at most 60: rounding alone
    if threshold is None:
        assert not any(spared)
        return
    assert (scores[positive] >= threshold).mean() >= target - 1e-12
    assert (scores[~positive] < threshold).mean() == max(spared)
    # The other way round, a fixed specificity is the same question about the mirrored set.
    mirrored = specificity_threshold(1 - scores, ~positive, target)
    assert mirrored is not None
    assert (1 - scores[positive] < mirrored).mean() >= target - 1e-12
    assert (1 - scores[~positive] >= mirrored).mean() == pytest.approx(max(spared))


@given(CASES)
def test_no_f1_is_better(cases) -> None:
    scores, positive, midpoints = arrays(cases)
    threshold = f1_threshold(scores, positive)
    if not positive.any() or positive.all():
        assert threshold is None
        return
    everything = f1_score(positive, np.ones_like(positive))
    best = max([everything, *(f1_score(positive, scores >= t, zero_division=0.0) for t in midpoints)])
    actual = everything if threshold is None else f1_score(positive, scores >= threshold)
    assert actual == pytest.approx(best, abs=1e-12)  # float64 rounding


def test_rules_have_names() -> None:
    scores, truth = np.array([0.1, 0.3, 0.4, 0.6, 0.7, 0.9]), np.array([0, 0, 1, 0, 1, 1])
    assert ThresholdRule.parse("sensitivity:0.95").threshold(scores, truth) == pytest.approx(0.35)
    assert ThresholdRule.parse("specificity:.9").threshold(scores, truth) == pytest.approx(0.65)
    assert [str(ThresholdRule.parse(text)) for text in ("youden", "f1", "specificity:.90")] == [
        "youden",
        "f1",
        "specificity:0.9",
    ]


@pytest.mark.parametrize("text", ["best", "sensitivity", "sensitivity:0", "sensitivity:1.2", "f1:0.5", "youden:1"])
def test_other_rules_are_refused(text) -> None:
    with pytest.raises(UsageError, match="is no rule for thresholds"):
        ThresholdRule.parse(text)
