"""Self-contained reports in HTML and Markdown."""

from xrt.benchmarks.report.page import write_report
from xrt.benchmarks.report.parts import Cell, Figure, Report, Section, Table

__all__ = ["Cell", "Figure", "Report", "Section", "Table", "write_report"]
