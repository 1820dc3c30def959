"""`write_report`: one HTML file that needs nothing else, and Markdown with its images beside it."""

from __future__ import annotations

import re
from pathlib import Path

from xrt.benchmarks.report.parts import Cell, Figure, Report, Section, Table
from xrt.runtime._io import data_url, render_page, write_atomically

HTML, MARKDOWN = "report.html", "report.md"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_FILE = re.compile(rf"({_NAME}/)?{_NAME}\.png")


def write_report(out: Path, report: Report) -> Path:
    """Write `report.html` and `report.md`, with the figures' files, into the folder `out`; return the HTML's path.

    Everything is escaped: names of classes and files are data, whatever they hold. Raises ValueError for a figure
    whose `file` is not a plain name ending in .png, in a plain folder if need be, or that two figures share.
    """
    figures = [figure for section in report.sections for figure in section.figures]
    files = [figure.file for figure in figures]
    for file in files:
        if not _FILE.fullmatch(file) or files.count(file) > 1:
            raise ValueError(f"{file!r} is not a plain name ending in .png of one figure alone")
    out.mkdir(parents=True, exist_ok=True)
    for figure in figures:
        write_atomically(out / figure.file, figure.png)
    write_atomically(out / MARKDOWN, markdown(report).encode())
    filters = {"cell": cell_text, "embedded": _embedded, "number": _is_number}
    page = render_page("xrt.benchmarks.report", "report.html.j2", filters, report=report)
    write_atomically(out / HTML, page)
    return out / HTML


def markdown(report: Report) -> str:
    """The report as Markdown (GitHub's tables); images are linked by their file names."""
    blocks = [f"# {_plain(report.title)}", _plain(report.subtitle)]
    for section in report.sections:
        blocks += _section(section)
    return "\n\n".join(block for block in blocks if block) + "\n"


def cell_text(cell: Cell, digits: int) -> str:
    """A cell as text: "not defined" for None, `digits` decimals for a number that is not whole."""
    if cell is None:
        return "not defined"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def _section(section: Section) -> list[str]:
    blocks = [f"## {_plain(section.title)}", *(_plain(paragraph) for paragraph in section.text)]
    for table in section.tables:
        blocks += _table(table)
    for figure in section.figures:
        blocks += [f"**{_plain(figure.title)}**", f"![{_plain(figure.title)}]({figure.file})", _plain(figure.note)]
    return blocks


def _table(table: Table) -> list[str]:
    numeric = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.columns))]
    lines = [
        _line([_plain(column) for column in table.columns]),
        _line(["---:" if right and table.rows else "---" for right in numeric]),
        *(_line([_plain(cell_text(cell, table.digits)) for cell in row]) for row in table.rows),
    ]
    return [f"**{_plain(table.title)}**" if table.title else "", "\n".join(lines), _plain(table.note)]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text on one line in which Markdown and HTML see no markup."""
    flat = " ".join(text.split())
    escaped = re.sub(r"([\\`*_{}\[\]<>|~#!$&])", r"\\\1", flat)
    # At the start of a line these would begin a list or a rule.
    escaped = re.sub(r"^([-+=])", r"\\\1", escaped)
    return re.sub(r"^(\d+)([.)]) ", r"\1\\\2 ", escaped)


def _is_number(cell: Cell) -> bool:
    return cell is None or isinstance(cell, (int, float))


def _embedded(figure: Figure) -> str:
    return data_url(figure.png)
