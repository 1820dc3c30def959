"""Calibration errors by hand, and temperatures that are known."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.prediction_tables import draw, write
from sklearn.metrics import brier_score_loss, log_loss

from xrt.benchmarks.evaluation import PredictionTable, assess
from xrt.benchmarks.evaluation.measure.calibration import (
    equal_mass,
    equal_width,
    expected_error,
    fit_temperatures,
    measure_calibration,
)
from xrt.benchmarks.evaluation.measure.calibration import log_loss as own_log_loss
from xrt.benchmarks.evaluation.measure.predictions import ModelInfo, Predictions
from xrt.benchmarks.statistics import Resamples
from xrt.runtime.datasets import Case, CaseTable
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.decisions import calibrated


def predictions(logits: np.ndarray, truth: np.ndarray, task, path) -> Predictions:
    names = tuple(f"c{j}" for j in range(logits.shape[1]))
    cases = tuple(
        Case(f"{i}", tuple(n for n, yes in zip(names, row, strict=True) if yes), f"{i}") for i, row in enumerate(truth)
    )
    table = CaseTable("made", path, task, names, cases, FolderImages(path))
    ones = (1.0,) * len(names)
    return Predictions(
        ModelInfo("m", "made"), table, task, logits, calibrated(logits, task, ones), (0.5,) * len(names), ones
    )


def test_the_expected_calibration_error_by_hand():
    p = np.array([0.1, 0.15, 0.8, 0.9])
    yes = np.array([False, True, True, True])
    once = Resamples.original(4)
    # Two bins: |0.5 - 0.125| and |1 - 0.85|, half of the images in each.
    assert expected_error(once, yes, p, equal_width(p, 2))[0] == pytest.approx((0.375 + 0.15) / 2)
    assert equal_width(np.array([0.0, 0.5, 1.0]), 2).tolist() == [0, 1, 1]
    assert np.bincount(equal_mass(np.random.default_rng(0).random(150), 15)).tolist() == [10] * 15


def test_brier_score_and_likelihood_are_those_of_scikit_learn(tmp_path):
    labels, probability = draw(200)
    table = PredictionTable.read(write(tmp_path / "p.csv", labels, probability))
    of_table = table.predictions(table.cases())
    rows = measure_calibration(of_table, Resamples.draw(of_table.patient, 50, 0))
    for j, row in enumerate(rows):
        assert row.brier.value == pytest.approx(brier_score_loss(labels[:, j], probability[:, j]), abs=1e-12)
        assert row.nll == pytest.approx(log_loss(labels[:, j], probability[:, j]), abs=1e-9)  # logits of logits


def test_a_known_temperature_is_found(tmp_path):
    """Labels drawn from sigmoid(z), probabilities given as sigmoid(3 z): the temperature is 3."""
    rng = np.random.default_rng(0)
    z = 2 * rng.standard_normal((20_000, 1))
    truth = rng.random(z.shape) < 1 / (1 + np.exp(-z))
    overconfident = predictions(3 * z, truth, "multilabel", tmp_path)
    (fitted,) = fit_temperatures(overconfident)
    assert fitted == pytest.approx(3.0, rel=0.06)  # its standard error on 20,000 images is about 2 %
    resamples = Resamples.draw(overconfident.patient, 20, 0)
    before = measure_calibration(overconfident, resamples)[0]
    after = measure_calibration(overconfident.with_temperatures((fitted,)), resamples)[0]
    assert before.ece.value > 0.1 > 0.02 > after.ece.value
    assert after.nll < before.nll


def test_a_softmax_has_one_temperature(tmp_path):
    rng = np.random.default_rng(1)
    z = 2 * rng.standard_normal((20_000, 3))
    share = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = (rng.random((len(z), 1)) > share.cumsum(axis=1)).sum(axis=1)
    of_softmax = predictions(0.5 * z, np.arange(3) == labels[:, None], "multiclass", tmp_path)
    fitted = fit_temperatures(of_softmax)
    assert len(set(fitted)) == 1
    assert fitted[0] == pytest.approx(0.5, rel=0.05)  # its standard error on 20,000 images is about 1 %
    rows = measure_calibration(of_softmax, Resamples.draw(of_softmax.patient, 5, 0))
    assert [row.name for row in rows] == ["c0", "c1", "c2", "highest class"]
    assert own_log_loss(of_softmax.logits, of_softmax.truth, "multiclass", 1.0) == pytest.approx(
        log_loss(labels, of_softmax.probability), abs=1e-12
    )


@pytest.mark.parametrize("truth", [[0, 0, 0, 0], [0, 0, 1, 1]], ids=["one kind", "separated"])
def test_cases_that_determine_no_temperature_leave_the_old_one(truth, tmp_path):
    few = predictions(
        np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array(truth, dtype=bool)[:, None], "multilabel", tmp_path
    )
    assert fit_temperatures(few.with_temperatures((1.5,))) == (1.5,)


def test_new_temperatures_alone_change_no_decision(tmp_path):
    labels, probability = draw(300)
    table = PredictionTable.read(write(tmp_path / "p.csv", labels, probability))
    original = table.predictions(table.cases()).with_thresholds((0.3, 0.5, None))
    cooled = original.with_temperatures((0.4, 2.0, 5.0))
    assert not np.allclose(cooled.probability, original.probability, atol=0.05)
    np.testing.assert_array_equal(cooled.decisions, original.decisions)
    evaluation, _ = assess(cooled, "all")
    assert [c.threshold for c in evaluation.classes] == list(cooled.thresholds)
