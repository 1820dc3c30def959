"""A CSV file of paths and labels, for data sets of one's own.

    path,label,patient,view,sex,age,split         path,Effusion,Mass,patient
    a.png,normal,1,PA,F,63,train                  a.png,1,0,7
    b.png,pneumonia,2,AP,M,060Y,test              b.dcm,0,0,8

`path` is relative to the file's folder, or absolute. Labels are in one column, `label` or `labels`, several joined by
`|`; or in columns of their own, in which 1 means present and 0 absent. `patient`, `view`, `sex`, `age` and `split`
(train, val, test, train_val) are optional. Capitals in the names of these columns do not matter. Where one column gives
every image exactly one label, labels are exclusive; otherwise they are independent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xrt.runtime.datasets.case import NO_FINDING, OLDEST, Case, whole_years
from xrt.runtime.datasets.csv_reader import name_columns, read_rows
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.datasets.labelled_set import LabelledSet, negative_first, occurring
from xrt.runtime.errors import DataError

LABELS = ("label", "labels")
PARTICULARS = ("path", "patient", "view", "sex", "age", "split")
PARTS = ("train", "val", "test", "train_val")
_UNLABELLED = (
    "No image has several labels, but images without any are listed ({}), so labels count as independent; where they"
    " exclude each other, name the label of every image."
)
_PRESENT = {"1": True, "0": False, "1.0": True, "0.0": False}


def recognises(path: Path) -> bool:
    """Whether `path` is a CSV file; whether it has the columns, reading says."""
    return path.suffix.lower() == ".csv" and path.is_file()


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read a CSV file. Raises DataError, naming line and column, for a cell, column or path that does not fit."""
    header, rows = read_rows(path)
    columns = _columns(path, header)
    label_column = columns.get("label", columns.get("labels"))
    class_columns = [] if label_column else [name for name in header if name and name not in columns.values()]
    if not label_column and not class_columns:
        raise DataError(f"{path} has no labels: add a column 'label', or one column of 0 and 1 for every class")
    cases: dict[str, Case] = {}
    missing: dict[str, None] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        key = _key(where, path.parent, row[columns["path"]])
        if key in cases or key in missing:
            raise DataError(f"{where}: {key} is listed twice; keep one row, its labels joined by '|'")
        labels = _split(row[label_column]) if label_column else _marked(where, row, class_columns)
        case = _case(where, {name: row[column] for name, column in columns.items()}, key, labels)
        if (path.parent / key).is_file():
            cases[key] = case
        elif (path.parent / key).is_dir():
            raise DataError(f"{where}: {key} is a folder; list the images in it")
        else:
            missing[key] = None
    counts = [len(case.labels) for case in cases.values()]
    exclusive = label_column is not None and set(counts) <= {1}
    if exclusive:
        labels = negative_first({case.labels[0] for case in cases.values()})
    else:
        labels = occurring(cases.values()) if label_column else tuple(n for n in class_columns if n != NO_FINDING)
    return LabelledSet(
        name=path.name,
        root=path.parent,
        cases=tuple(cases.values()),
        images=FolderImages(path.parent),
        labels=labels,
        exclusive=exclusive,
        listed_in=path,
        missing=tuple(missing),
        notes=(_UNLABELLED.format(counts.count(0)),) if label_column and set(counts) == {0, 1} else (),
    )


def _columns(file: Path, header: Sequence[str]) -> dict[str, str]:
    """The columns that are not classes: by their names in small letters, as they are written."""
    columns: dict[str, str] = {}
    for column in header:
        name = column.lower()
        if name in (*PARTICULARS, *LABELS) and columns.setdefault(name, column) != column:
            raise DataError(f"{file} has the columns {columns[name]!r} and {column!r}; keep one of them")
    if "path" not in columns:
        raise DataError(f"{file} has no column 'path' that says where the images are; {name_columns(header)}")
    if set(LABELS) <= set(columns):
        raise DataError(f"{file} has the columns 'label' and 'labels'; keep one of them")
    return columns


def _key(where: str, folder: Path, text: str) -> str:
    """The path as the table writes it: relative to `folder`, or absolute where it lies elsewhere."""
    if not text:
        raise DataError(f"{where}: path must not be empty; complete or remove the row")
    # By name alone, so that links stay where they are listed.
    root = Path(os.path.abspath(folder))  # noqa: PTH100
    place = Path(os.path.normpath(root / text))
    if place.is_relative_to(root):
        return place.relative_to(root).as_posix()
    if not Path(text).is_absolute():
        raise DataError(f"{where}: {text} leaves the folder of the file; give an absolute path, or move the file")
    return place.as_posix()


def _split(cell: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label.strip() for label in cell.split("|") if label.strip()))


def _marked(where: str, row: Mapping[str, str], columns: Sequence[str]) -> tuple[str, ...]:
    for column in columns:
        if row[column] not in _PRESENT:
            raise DataError(
                f"{where}: column {column!r} holds {row[column]!r}; a class's column holds 1 or 0. Decide what"
                " uncertain and empty labels count as, or remove a column that is no class."
            )
    return tuple(column for column in columns if _PRESENT[row[column]])


def _case(where: str, cells: Mapping[str, str], key: str, labels: tuple[str, ...]) -> Case:
    patient, split, age = cells.get("patient", key), cells.get("split", "").lower(), cells.get("age", "")
    if not patient:
        raise DataError(f"{where}: patient must not be empty; name one for every image, or remove the column")
    if split and split not in PARTS:
        raise DataError(f"{where}: split is {cells['split']!r}; it is one of {', '.join(PARTS)}, or empty")
    if age and whole_years(age) is None:
        raise DataError(f"{where}: age is {age!r}; give years from 0 to {OLDEST}, or leave it empty")
    return Case(
        key=key,
        labels=labels,
        patient=patient,
        view=cells.get("view") or None,
        sex=cells.get("sex") or None,
        age=whole_years(age),
        split=split or None,
    )
