"""Tables as people save them: UTF-8 with or without a mark, any line ends, columns found by name."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from xrt.runtime._io import comma_list
from xrt.runtime.errors import DataError

Row = tuple[int, dict[str, str]]
"""The number of the row's (last) line, from 1, and its cells by column, stripped."""


def read_text(file: Path) -> str:
    """The content of a UTF-8 file without its byte order mark. Raises DataError if it cannot be read or is not one."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}; check the path and its permissions") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it again as CSV in UTF-8") from None


def read_cells(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of every row that is not empty. Raises DataError."""
    reader = csv.reader(io.StringIO(read_text(file), newline=""), skipinitialspace=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: {error}; save it again as CSV in UTF-8") from None


def read_rows(file: Path, *, columns: Sequence[str] = (), filled: Sequence[str] = ()) -> tuple[list[str], list[Row]]:
    """The column names of a CSV file, and its rows.

    Raises DataError if a column of `columns` or `filled` is not there or two have one name, if a row leaves a cell of
    `filled` empty or has more cells than there are columns, and if there is no row.
    """
    cells = read_cells(file)
    _, header = next(cells, (0, []))
    for column in (*filled, *columns):
        if column not in header:
            raise DataError(f"{file} has no column {column!r}; {name_columns(header)}")
    if duplicates := sorted({name for name in header if name and header.count(name) > 1}):
        raise DataError(f"{file} has several columns {duplicates[0]!r}; rename or remove all but one")
    rows: list[Row] = []
    for line, values in cells:
        if any(values[len(header) :]):
            raise DataError(
                f"{file}, line {line}: {len(values)} cells, but {len(header)} columns; quote cells that hold a comma"
            )
        row = dict(zip(header, (*values, *("",) * len(header)), strict=False))
        if any(not row[column] for column in filled):
            raise DataError(f"{file}, line {line}: {', '.join(filled)} must not be empty; complete the row")
        rows.append((line, row))
    if not rows:
        raise DataError(f"{file} has {'a header but ' if header else ''}no rows; give the complete file")
    return header, rows


def name_columns(header: Sequence[str]) -> str:
    """What a message says of the columns that are there."""
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        if sum(cell.count(sign) for cell in header) >= len(header):
            return f"its cells seem to be separated by {name}; separate them by commas"
    return f"its columns are {comma_list(header)}"
