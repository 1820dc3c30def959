"""Screening: files in, findings with heatmaps out, recorded so that nothing is lost and nothing is done twice."""

from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.screening.screener import Screener

__all__ = ["Finding", "Result", "Screener"]
