"""The result of an evaluation, and the predictions that it was computed from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from xrt.benchmarks.evaluation.measure.acceptance import Acceptance, Requirement
from xrt.benchmarks.evaluation.measure.calibration import Calibration
from xrt.benchmarks.evaluation.measure.comparison import Comparison
from xrt.benchmarks.evaluation.measure.confusion import Confusion, ReportLine
from xrt.benchmarks.evaluation.measure.figures import ClassFigures, Figures
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.evaluation.measure.subgroups import Subgroup
from xrt.benchmarks.evaluation.measure.thresholds import OperatingPoint, ReportedPredictions
from xrt.benchmarks.localisation import Pointing
from xrt.benchmarks.statistics import Estimate
from xrt.runtime.scoring import Unscored
from xrt.runtime.thresholds import ThresholdRule


@dataclass(frozen=True)
class EvaluationOptions:
    """How an evaluation is made.

    `rule` and `temperature` ask for new thresholds and temperatures from the validation cases, under which everything
    is reported. `resamples` is how many the bootstrap draws, from `seed`.
    """

    rule: ThresholdRule | None = None
    temperature: bool = False
    resamples: int = 1000
    seed: int = 0
    requirements: tuple[Requirement, ...] = ()


DEFAULT_OPTIONS = EvaluationOptions()


@dataclass(frozen=True)
class EvaluationRecord:
    """What was evaluated: predictions as the model gave them, under the reported rules, and other models' of the cases.

    `fitted` are those of the model with temperatures fitted on the validation cases, if there are any.
    """

    original: Predictions
    reported: ReportedPredictions
    fitted: Predictions | None = None
    others: tuple[Predictions, ...] = ()

    @property
    def predictions(self) -> Predictions:
        """What is reported."""
        return self.reported.predictions


@dataclass(frozen=True)
class Evaluation:
    """All figures of a model on one table of cases.

    `unscored` are images that could not be scored and are in no figure. `recalibrated` is the calibration after fitting
    on the validation cases, empty without them; `validation` names these; `rule` says where the thresholds come from.
    """

    model: str
    model_sha256: str | None
    executed: str
    dataset: str
    part: str
    images: int
    patients: int
    unscored: tuple[Unscored, ...]
    validation: str | None
    rule: str
    resamples: int
    seed: int
    classes: tuple[ClassFigures, ...]
    mean: Figures
    accuracy: Estimate
    operating: tuple[OperatingPoint, ...]
    confusions: tuple[Confusion, ...]
    report_lines: tuple[ReportLine, ...]
    calibration: tuple[Calibration, ...]
    recalibrated: tuple[Calibration, ...]
    subgroups: tuple[Subgroup, ...]
    comparisons: tuple[Comparison, ...]
    pointing: tuple[Pointing, ...]
    acceptance: Acceptance | None

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data; what is not defined is None."""
        return {**asdict(self), "verdicts": [comparison.verdict for comparison in self.comparisons]}
