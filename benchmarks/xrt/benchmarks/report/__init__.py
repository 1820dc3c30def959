"""Self-contained reports in HTML and Markdown."""

from xrt.benchmarks.report.parts import Cell, Figure, Report, Section, Table
from xrt.benchmarks.report.writing import write_report

__all__ = ["Cell", "Figure", "Report", "Section", "Table", "write_report"]
