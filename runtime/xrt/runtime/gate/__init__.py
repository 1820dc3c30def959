"""The gate: numbers in, verdict out. It measures how far a candidate's outputs are from a reference's and compares the
figures with the limits of the candidate's precision. It needs numpy alone (and jaxtyping, which spells out shapes).
"""

from xrt.runtime.gate.auroc import auroc, mean_auroc
from xrt.runtime.gate.figures import Comparison, Figures, Worst, compare, highest, measure, upper_bound
from xrt.runtime.gate.judge import Verdict, judge
from xrt.runtime.gate.limits import AT_LEAST, LIMITS, MIN_DECISIONS

__all__ = [
    "AT_LEAST",
    "LIMITS",
    "MIN_DECISIONS",
    "Comparison",
    "Figures",
    "Verdict",
    "Worst",
    "auroc",
    "compare",
    "highest",
    "judge",
    "mean_auroc",
    "measure",
    "upper_bound",
]
