"""The limits that a variant of each precision must keep."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xrt.runtime.bundle.manifest import Precision

MIN_DECISIONS = 300
"""Under this many decisions, zero flips still allow 1 % at 95 % confidence: that is no evidence."""

MIN_IMAGES = 32
"""However many classes a model has: the decisions of one image are not independent of each other."""

HALF_PEAK = 65504 / 4
"""A quarter of the largest fp16 number. Execution on a CPU, which computes in fp32, cannot show an overflow."""

LIMITS: dict[Precision, dict[str, float]] = {
    "fp32": {
        "logit_error": 1e-4,
        "probability_change_max": 1e-4,
        "flips": 0.0,
        "auroc_drop": 1e-4,
        "map_correlation": 0.999,
        "map_difference": 1e-3,
    },
    "fp16": {
        "logit_error": 5e-3,
        "probability_change_max": 0.005,
        "flips": 0.001,
        "auroc_drop": 0.001,
        "map_correlation": 0.99,
        "map_difference": 0.02,
        "peak": HALF_PEAK,
    },
    "int8": {
        "logit_error": 0.25,
        "logit_error_p95": 0.10,
        "probability_change_p95": 0.03,
        "probability_change_max": 0.10,
        "flips": 0.01,
        "auroc_drop": 0.005,
        "map_correlation": 0.90,
        "map_difference": 0.25,
    },
}
ORIGINAL_LIMITS: dict[str, float] = {
    "input_change_p95": 1 / 255,
    "input_change_max": 3 / 255,
    "source_change_p95": 0.005,
    "source_change_max": 0.02,
    "source_flips": 0.0,
}
"""How far the way from a file to a decision may be from that of the pipeline which a model comes from: inputs as a
fraction of their range, probabilities, and the fraction of decisions that differ."""

AT_LEAST = frozenset({"map_correlation"})
"""Figures that must reach their limit; the others must not exceed theirs."""
