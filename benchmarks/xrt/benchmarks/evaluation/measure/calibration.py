"""Calibration: how often a probability of p comes true, and the temperature that corrects it.

The expected calibration error is Σ_b n_b / n · |fraction of positives in bin b - mean probability in bin b| (Naeini et
al. 2015; Guo et al. 2017), over 15 bins of equal width from 0 to 1, or of equal mass (as many images in each; Nixon et
al. 2019), which does not hide a rare class in one bin. It is biased upwards in small sets. Resampling adds the same
bias once more, so that resamples are centred on the point before their percentiles are taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar

from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.statistics import Estimate, Resamples, percentile
from xrt.runtime.bundle.manifest import Task

BINS = 15
_TEMPERATURES = (0.05, 20.0)
"""The range in which a temperature is searched. One at an end means that the cases do not determine it."""


@dataclass(frozen=True)
class Calibration:
    """One class, or the highest class of a multiclass model, with one set of temperatures.

    `nll` is the mean negative log likelihood in nats; `ece_mass` the error in bins of equal mass.
    """

    name: str
    temperature: float
    brier: Estimate
    ece: Estimate
    ece_mass: Estimate
    nll: float


def equal_width(p: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """The bin of each probability, of equal width; 1 belongs to the last."""
    return np.minimum((p * bins).astype(np.int64), bins - 1)


def equal_mass(p: Float[np.ndarray, " n"], bins: int) -> Int[np.ndarray, " n"]:
    """The bin of each probability, with as many images in each as ties allow."""
    edges = np.quantile(p, np.arange(1, bins) / bins)
    return np.searchsorted(edges, p, side="left").astype(np.int64)


def expected_error(
    resamples: Resamples, yes: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], bins: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """The expected calibration error of every resample."""
    member = bins[:, None] == np.unique(bins)
    gaps = resamples.sums(member * (yes - p)[:, None])
    total = resamples.sums(np.ones((len(p), 1)))[:, 0]
    return np.abs(gaps).sum(axis=1) / total


def centred(value: float, resampled: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    """Resampled errors moved so that their mean is the measured error; no error is below 0."""
    return np.maximum(0.0, resampled - resampled.mean() + value) if len(resampled) else resampled


def reliability(
    yes: Bool[np.ndarray, " n"], p: Float[np.ndarray, " n"], bins: Int[np.ndarray, " n"]
) -> list[tuple[float, int, int]]:
    """For every bin that holds images: their mean probability, how many are positive, how many there are."""
    return [(float(p[bins == b].mean()), int(yes[bins == b].sum()), int((bins == b).sum())) for b in np.unique(bins)]


def fit_temperatures(validation: Predictions) -> tuple[float, ...]:
    """Temperatures that minimise the negative log likelihood of `validation` (Guo et al. 2017).

    One for each class of sigmoid outputs, one for all classes of a softmax. A class keeps the temperature it has where
    the cases determine none: when they are all of one kind, or separated without an error.
    """
    logits, truth, old = validation.logits, validation.truth, validation.temperatures
    if validation.task == "multiclass":
        fitted = _fit(logits, truth, "multiclass")
        return old if fitted is None else (fitted,) * len(old)
    fitted = [_fit(logits[:, j : j + 1], truth[:, j : j + 1], "multilabel") for j in range(logits.shape[1])]
    return tuple(before if new is None else new for before, new in zip(old, fitted, strict=True))


def log_loss(logits: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"], task: Task, temperature: float) -> float:
    """The mean negative log likelihood in nats, from logits, so that nothing saturates."""
    z = logits / temperature
    if task == "multiclass":
        z, truth = z[truth.any(axis=1)], truth[truth.any(axis=1)]
        highest = z.max(axis=1)
        return float((highest + np.log(np.exp(z - highest[:, None]).sum(axis=1)) - z[truth]).mean())
    return float(np.logaddexp(0, np.where(truth, -z, z)).mean())


def measure_calibration(predictions: Predictions, resamples: Resamples) -> tuple[Calibration, ...]:
    """Calibration of every class; for a multiclass model also of its confidence, the highest class against the rest."""
    rows = []
    for j, name in enumerate(predictions.names):
        yes, p = predictions.truth[:, j], predictions.probability[:, j]
        temperature = predictions.temperatures[j]
        if predictions.task == "multiclass":
            nll = float(-np.log(np.maximum(np.where(yes, p, 1 - p), np.finfo(np.float64).tiny)).mean())
        else:
            nll = log_loss(predictions.logits[:, j : j + 1], yes[:, None], "multilabel", temperature)
        rows.append(_row(name, temperature, yes, p, nll, resamples))
    if predictions.task == "multiclass":
        yes, p = confidence(predictions)
        temperature = predictions.temperatures[0]
        nll = log_loss(predictions.logits, predictions.truth, "multiclass", temperature)
        rows.append(_row("highest class", temperature, yes, p, nll, resamples))
    return tuple(rows)


def confidence(predictions: Predictions) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Whether the highest class is the right one, and its probability, for every image."""
    return predictions.right, predictions.probability.max(axis=1)


def _row(
    name: str,
    temperature: float,
    yes: Bool[np.ndarray, " n"],
    p: Float[np.ndarray, " n"],
    nll: float,
    resamples: Resamples,
) -> Calibration:
    original = Resamples.original(len(yes))
    error = ((p - yes) ** 2)[:, None]
    draws = resamples.sums(error)[:, 0] / resamples.sums(np.ones_like(error))[:, 0]

    def error_in(bins: Int[np.ndarray, " n"]) -> Estimate:
        point = float(expected_error(original, yes, p, bins)[0])
        return percentile(point, centred(point, expected_error(resamples, yes, p, bins)))

    return Calibration(
        name=name,
        temperature=temperature,
        brier=percentile(float(error.mean()), draws),
        ece=error_in(equal_width(p, BINS)),
        ece_mass=error_in(equal_mass(p, BINS)),
        nll=nll,
    )


def _fit(logits: Float[np.ndarray, "n k"], truth: Bool[np.ndarray, "n k"], task: Task) -> float | None:
    kinds = truth.any(axis=0) & ~truth.all(axis=0)
    if not kinds.any():
        return None
    low, high = np.log(_TEMPERATURES)
    optimum = minimize_scalar(
        lambda t: log_loss(logits, truth, task, float(np.exp(t))),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-6},
    )
    at_an_end = min(optimum.x - low, high - optimum.x) < 1e-3
    return None if at_an_end else float(np.exp(optimum.x))
