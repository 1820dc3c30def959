"""Heatmaps against the boxes that readers drew."""

from xrt.benchmarks.localisation.findings import BoxedFinding, ImageFrame, boxed_finding
from xrt.benchmarks.localisation.pointing import Pointing, pointing_game
from xrt.benchmarks.localisation.summary import Localisation, localise

__all__ = [
    "BoxedFinding",
    "ImageFrame",
    "Localisation",
    "Pointing",
    "boxed_finding",
    "localise",
    "pointing_game",
]
