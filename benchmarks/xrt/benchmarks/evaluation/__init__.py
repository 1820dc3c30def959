"""Quality of a model on labelled cases: a bundle's, or a table of predictions'."""

from xrt.benchmarks.evaluation.evaluation import Evaluation, Options, Study, assess, evaluate, score
from xrt.benchmarks.evaluation.selection import select_part
from xrt.benchmarks.evaluation.tables import PredictionTable
from xrt.benchmarks.evaluation.writing import write_evaluation

__all__ = [
    "Evaluation",
    "Options",
    "PredictionTable",
    "Study",
    "assess",
    "evaluate",
    "score",
    "select_part",
    "write_evaluation",
]
