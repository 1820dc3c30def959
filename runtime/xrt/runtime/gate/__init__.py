"""The gate: numbers in, verdict out. It measures how far a candidate's answers are from a reference's, holds the
figures against the limits of its precision, and writes the certificate. It needs numpy and nothing else.
"""

from xrt.runtime.gate.answers import Answers, answer
from xrt.runtime.gate.certify import certificate_of, replay
from xrt.runtime.gate.figures import Figures, highest, measure
from xrt.runtime.gate.limits import LIMITS, MIN_DECISIONS, judge

__all__ = [
    "LIMITS",
    "MIN_DECISIONS",
    "Answers",
    "Figures",
    "answer",
    "certificate_of",
    "highest",
    "judge",
    "measure",
    "replay",
]
