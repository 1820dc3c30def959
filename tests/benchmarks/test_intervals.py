"""Intervals and ranking figures against published values, exact distributions and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score, roc_auc_score

from xrt.benchmarks.statistics import Estimate, Resamples, percentile, ranking, wilson


def share(hits: int, count: int) -> Estimate:
    return wilson(np.arange(count) < hits, np.ones(count, dtype=bool), np.arange(count))


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3: four decimals.
@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(hits, count, low, high):
    estimate = share(hits, count)
    assert estimate.value == hits / count
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_twice_the_same_image_of_a_patient_is_no_more_evidence():
    hits = np.arange(40) % 3 == 0
    once = wilson(hits, np.ones(40, dtype=bool), np.arange(40))
    twice = wilson(np.repeat(hits, 2), np.ones(80, dtype=bool), np.repeat(np.arange(40), 2))
    assert str(once) == str(twice)
    all_right = wilson(np.ones(80, dtype=bool), np.ones(80, dtype=bool), np.repeat(np.arange(40), 2))
    assert str(all_right) == str(share(40, 40))


def test_a_share_of_nothing_is_not_defined():
    nothing = wilson(np.ones(5, dtype=bool), np.zeros(5, dtype=bool), np.arange(5))
    assert (nothing.value, nothing.low, str(nothing)) == (None, None, "not defined")


def test_nothing_is_less_than_nothing():
    assert str(Estimate(-0.0001, -0.0002, 0.0001)) == "0.000 [0.000, 0.000]"
    assert Estimate(-0.0001, -0.0002, 0.0001).text == "0.000 [0.000, 0.000]"
    assert Estimate(-0.0001).text == "0.000"


@pytest.fixture(scope="module")
def cases():
    rng = np.random.default_rng(3)
    truth = rng.random(300) < 0.3
    scores = np.round(truth + rng.standard_normal(300), 1)  # rounded: many ties
    return truth, scores, rng.integers(0, 80, 300)


def test_ranking_figures_are_those_of_scikit_learn(cases):
    truth, scores, _ = cases
    area, average = ranking(truth, scores)
    # float64 sums of at most 300 terms
    assert area == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


def test_every_resample_is_scikit_learn_with_weights(cases):
    truth, scores, patient = cases
    patient = np.unique(patient, return_inverse=True)[1]
    resamples = Resamples.draw(patient, 20, seed=1)
    areas, averages = resamples.rankings(truth, scores)
    for weights, area, average in zip(resamples.weights, areas, averages, strict=True):
        assert area == pytest.approx(roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12)
        assert average == pytest.approx(average_precision_score(truth, scores, sample_weight=weights), abs=1e-12)
        for each in range(patient.max() + 1):  # a patient's images come and go together
            assert len(set(weights[patient == each])) == 1


def test_the_interval_of_a_share_is_that_of_the_binomial_distribution():
    """Resampling n images of which x are hits draws the share from Binomial(n, x / n) / n exactly."""
    hits = np.arange(200) < 60
    fractions = Resamples.draw(np.arange(200), 20_000, seed=0).sums(hits[:, None])[:, 0] / 200
    estimate = percentile(0.3, fractions)
    # One count is 0.005; 20,000 draws place a 2.5 % quantile within one count of the exact one.
    assert estimate.low == pytest.approx(binom.ppf(0.025, 200, 0.3) / 200, abs=0.0051)
    assert estimate.high == pytest.approx(binom.ppf(0.975, 200, 0.3) / 200, abs=0.0051)


def test_the_interval_of_an_auroc_that_is_a_binomial_share():
    """All negatives score alike, so the AUROC is the share of positives above them: X / (X + Y), multinomial counts."""
    above, below, negatives = 30, 20, 50
    truth = np.arange(100) < above + below
    scores = np.concatenate([np.full(above, 1.0), np.full(below, -1.0), np.zeros(negatives)])
    areas, _ = Resamples.draw(np.arange(100), 20_000, seed=0).rankings(truth, scores)
    estimate = percentile(0.6, areas)
    # Exactly: the number of positives is binomial, and given it, the number above is.
    values, chances = [], []
    for count in range(1, 100):
        x = np.arange(count + 1)
        values.append(x / count)
        chances.append(binom.pmf(count, 100, 0.5) * binom.pmf(x, count, above / (above + below)))
    values, chances = np.concatenate(values), np.concatenate(chances)
    order = values.argsort()
    reached = chances[order].cumsum()
    for bound, quantile in ((estimate.low, 0.025), (estimate.high, 0.975)):
        # The AUROC's standard deviation is 0.07; the quantile of 20,000 draws is within a fifteenth of it.
        assert bound == pytest.approx(values[order][np.searchsorted(reached, quantile)], abs=0.005)


def test_resamples_without_both_kinds_are_left_out_or_leave_no_interval():
    truth = np.arange(200) == 0  # one positive: a third of the resamples have none
    areas, _ = Resamples.draw(np.arange(200), 500, seed=0).rankings(truth, np.linspace(1, 0, 200))
    assert 0.3 < np.isnan(areas).mean() < 0.45  # (1 - 1/200)^200 is 0.367
    one = percentile(1.0, areas)
    assert (one.value, one.low, one.high) == (1.0, None, None)
    assert str(one) == "1.000 [not defined]"
    areas, averages = Resamples.draw(np.arange(4), 5, seed=0).rankings(np.zeros(4, dtype=bool), np.arange(4.0))
    assert np.isnan(areas).all() and np.isnan(averages).all()
    assert ranking(np.zeros(4, dtype=bool), np.arange(4.0)) == (None, None)


def test_no_resamples_means_no_interval(cases):
    truth, scores, patient = cases
    none = Resamples.draw(np.unique(patient, return_inverse=True)[1], 0, seed=0)
    assert percentile(0.5, none.rankings(truth, scores)[0]) == Estimate(0.5, None, None)
