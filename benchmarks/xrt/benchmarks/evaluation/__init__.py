"""Quality of a model on labelled cases: a bundle's, or a table of predictions'."""

from xrt.benchmarks.evaluation.evaluate import EvaluationRequest, evaluate, evaluate_session
from xrt.benchmarks.evaluation.measure.assess import assess
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation, EvaluationOptions, EvaluationRecord
from xrt.benchmarks.evaluation.measure.prediction_table import PredictionTable
from xrt.benchmarks.evaluation.measure.selection import CasePart, select_part
from xrt.benchmarks.evaluation.output import write_evaluation
from xrt.benchmarks.evaluation.score import score

__all__ = [
    "CasePart",
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRecord",
    "EvaluationRequest",
    "PredictionTable",
    "assess",
    "evaluate",
    "evaluate_session",
    "score",
    "select_part",
    "write_evaluation",
]
