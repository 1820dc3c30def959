"""The case table: labelled radiographs of any known layout as one table, without torch."""

from xrt.runtime.cases.case import Box, Case
from xrt.runtime.cases.overview import describe
from xrt.runtime.cases.readers import cases_for, open_cases, recognised
from xrt.runtime.cases.table import CaseTable, Splits

__all__ = ["Box", "Case", "CaseTable", "Splits", "cases_for", "describe", "open_cases", "recognised"]
