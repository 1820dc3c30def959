"""How the figures of a report were made, in the words of a paper's methods section."""

from __future__ import annotations

from xrt.benchmarks.evaluation.measure.calibration import BINS
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation
from xrt.benchmarks.report import Section
from xrt.benchmarks.statistics.estimate import MIN_USABLE


def methods(e: Evaluation) -> Section:
    """The section."""
    return Section(
        "Methods",
        (
            f"Intervals are at 95 %. Those of AUROC, average precision, F1, Brier score, calibration errors, means and "
            f"differences are percentile intervals of {e.resamples} bootstrap resamples (seed {e.seed}) that draw "
            "patients with replacement and take all their images; classes, subgroups and models share the resamples. "
            f"A resample in which a figure is not defined is left out; where under {100 * MIN_USABLE:.0f} % "
            "remain, there is no interval.",
            "Accuracy, sensitivity, specificity, precision and NPV are fractions of images with Wilson's score "
            "interval (JASA 1927), counts divided by the design effect of several images per patient (Rao & Scott, "
            "Biometrics 1992). Without patients' names every image is its own patient, and intervals may be too "
            "narrow.",
            "AUROC counts ties half; average precision does not interpolate; both as in scikit-learn. A class with one "
            "kind of case has neither: not defined.",
            "Thresholds are midpoints between adjacent scores of the validation cases: Youden's J (Cancer 1950), the "
            "highest F1, or the best specificity at a fixed sensitivity and the other way round. Temperatures minimise "
            "the negative log likelihood of the validation cases (Guo et al. 2017, arXiv 1706.04599). No reported case "
            "is among them. Where validation gives no threshold, the model's own is kept.",
            f"The expected calibration error has {BINS} bins. It is biased upwards on few images; its "
            "resamples are centred on it, since resampling adds that bias once more.",
        ),
    )
