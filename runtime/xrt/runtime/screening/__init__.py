"""Screening: files in, findings with heatmaps out, recorded so that every file has a result and is scored once."""

from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.screening.screener import Screener

__all__ = ["Finding", "Result", "Screener"]
