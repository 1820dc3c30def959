"""Quality of a bundle on labelled cases."""

from xrt.benchmarks.evaluation.evaluation import Evaluation, evaluate, select_part, write_evaluation

__all__ = ["Evaluation", "evaluate", "select_part", "write_evaluation"]
