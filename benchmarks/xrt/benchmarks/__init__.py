"""Measuring a bundle: speed, quality, faithfulness of its heatmaps, and parity with the PyTorch model.

    from pathlib import Path

    from xrt.benchmarks import EvaluationRequest, evaluate

    evaluation, record = evaluate(EvaluationRequest(Path("chest.xrt"), Path("nih/")))

Names are loaded when they are first used, so that importing the package, as every command does, costs nothing. Only
`compare` and `source_of` need the extra `torch`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrt.benchmarks.evaluation.evaluate import EvaluationRequest, evaluate, evaluate_session
    from xrt.benchmarks.evaluation.export_thresholds import export_thresholds
    from xrt.benchmarks.evaluation.measure.acceptance import Acceptance, Requirement, read_requirements
    from xrt.benchmarks.evaluation.measure.assess import assess
    from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationOptions, EvaluationRecord
    from xrt.benchmarks.evaluation.measure.prediction_table import PredictionTable, write_predictions
    from xrt.benchmarks.evaluation.measure.predictions import Predictions
    from xrt.benchmarks.evaluation.measure.selection import CasePart, select_part
    from xrt.benchmarks.evaluation.output import write_evaluation
    from xrt.benchmarks.explanation.explain import Explanation, explain
    from xrt.benchmarks.explanation.options import ExplainOptions
    from xrt.benchmarks.faithfulness.measure import FaithfulnessResult, measure_faithfulness
    from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
    from xrt.benchmarks.faithfulness.report import write_faithfulness
    from xrt.benchmarks.localisation.findings import BoxedFinding
    from xrt.benchmarks.localisation.pointing import Pointing, pointing_game
    from xrt.benchmarks.localisation.summary import Localisation, localise
    from xrt.benchmarks.parity import ParityRow, compare, source_of
    from xrt.benchmarks.report.page import write_report
    from xrt.benchmarks.report.parts import Report
    from xrt.benchmarks.speed.measure import SpeedOptions, SpeedRow, measure_speed
    from xrt.benchmarks.statistics.bootstrap import Resamples
    from xrt.benchmarks.statistics.estimate import Estimate
    from xrt.benchmarks.statistics.ratio import Ratio
    from xrt.benchmarks.statistics.wilson import wilson

_MODULES = {
    "xrt.benchmarks.evaluation.evaluate": ("EvaluationRequest", "evaluate", "evaluate_session"),
    "xrt.benchmarks.evaluation.export_thresholds": ("export_thresholds",),
    "xrt.benchmarks.evaluation.measure.acceptance": ("Acceptance", "Requirement", "read_requirements"),
    "xrt.benchmarks.evaluation.measure.assess": ("assess",),
    "xrt.benchmarks.evaluation.measure.evaluation_record": ("Evaluation", "EvaluationOptions", "EvaluationRecord"),
    "xrt.benchmarks.evaluation.measure.prediction_table": ("PredictionTable", "write_predictions"),
    "xrt.benchmarks.evaluation.measure.predictions": ("Predictions",),
    "xrt.benchmarks.evaluation.measure.selection": ("CasePart", "select_part"),
    "xrt.benchmarks.evaluation.output": ("write_evaluation",),
    "xrt.benchmarks.explanation.explain": ("Explanation", "explain"),
    "xrt.benchmarks.explanation.options": ("ExplainOptions",),
    "xrt.benchmarks.faithfulness.measure": ("FaithfulnessResult", "measure_faithfulness"),
    "xrt.benchmarks.faithfulness.options": ("FaithfulnessOptions",),
    "xrt.benchmarks.faithfulness.report": ("write_faithfulness",),
    "xrt.benchmarks.localisation.findings": ("BoxedFinding",),
    "xrt.benchmarks.localisation.pointing": ("Pointing", "pointing_game"),
    "xrt.benchmarks.localisation.summary": ("Localisation", "localise"),
    "xrt.benchmarks.parity": ("ParityRow", "compare", "source_of"),
    "xrt.benchmarks.report.page": ("write_report",),
    "xrt.benchmarks.report.parts": ("Report",),
    "xrt.benchmarks.speed.measure": ("SpeedOptions", "SpeedRow", "measure_speed"),
    "xrt.benchmarks.statistics.bootstrap": ("Resamples",),
    "xrt.benchmarks.statistics.estimate": ("Estimate",),
    "xrt.benchmarks.statistics.ratio": ("Ratio",),
    "xrt.benchmarks.statistics.wilson": ("wilson",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Acceptance",
    "BoxedFinding",
    "CasePart",
    "Estimate",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRecord",
    "EvaluationRequest",
    "ExplainOptions",
    "Explanation",
    "FaithfulnessOptions",
    "FaithfulnessResult",
    "Localisation",
    "ParityRow",
    "Pointing",
    "PredictionTable",
    "Predictions",
    "Ratio",
    "Report",
    "Requirement",
    "Resamples",
    "SpeedOptions",
    "SpeedRow",
    "assess",
    "compare",
    "evaluate",
    "evaluate_session",
    "explain",
    "export_thresholds",
    "localise",
    "measure_faithfulness",
    "measure_speed",
    "pointing_game",
    "read_requirements",
    "select_part",
    "source_of",
    "wilson",
    "write_evaluation",
    "write_faithfulness",
    "write_predictions",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
