"""The gate: numbers in, verdict out. It measures how far a candidate's outputs are from a reference's and compares the
figures with the limits of the candidate's precision. It needs numpy alone (and jaxtyping, which spells out shapes).
"""

from xrt.runtime.gate.auroc import auroc, mean_auroc
from xrt.runtime.gate.evidence import distinct_images, open_decisions, shown_in
from xrt.runtime.gate.figures import Comparison, Figures, Worst, compare, measure, upper_bound
from xrt.runtime.gate.judge import PASSED, SYNTHETIC_ONLY, Verdict, judge
from xrt.runtime.gate.limits import AT_LEAST, LIMITS, MIN_DECISIONS, MIN_IMAGES
from xrt.runtime.gate.maps import highest

__all__ = [
    "AT_LEAST",
    "LIMITS",
    "MIN_DECISIONS",
    "MIN_IMAGES",
    "PASSED",
    "SYNTHETIC_ONLY",
    "Comparison",
    "Figures",
    "Verdict",
    "Worst",
    "auroc",
    "compare",
    "distinct_images",
    "highest",
    "judge",
    "mean_auroc",
    "measure",
    "open_decisions",
    "shown_in",
    "upper_bound",
]
