"""What a report is made of: measuring code describes its results with these, and `page` writes them."""

from __future__ import annotations

from dataclasses import dataclass

Cell = str | int | float | None
"""One cell of a table; None is shown as "not defined"."""


@dataclass(frozen=True)
class Table:
    """Rows under named columns. `note` says how to read it; numbers are shown with `digits` decimals."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Figure:
    """An image: PNG bytes, which the report embeds and also writes beside itself as `file`."""

    title: str
    file: str
    png: bytes
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and figures below it, in this order."""

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report. `subtitle` says what was measured on what."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
