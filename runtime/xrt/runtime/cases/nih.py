"""NIH ChestX-ray14 (Wang et al., CVPR 2017, arXiv 1705.02315) as published, and the copies that differ from it.

    Data_Entry_2017.csv                         one row an image; labels joined by `|`; `No Finding` when none
    images/*.png  or  images_001/images/*.png   one flat folder, or the parts as they are downloaded
    BBox_List_2017.csv                          optional: boxes of some test images
    train_val_list.txt, test_list.txt           optional: the official split

The published header has unquoted commas (`OriginalImage[Width,Height]`) and so names 11 fields, which is what
the rows have; other copies write `OriginalImageWidth`. Columns are therefore found by name, never by place.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from xrt.runtime.cases.case import Box, Case
from xrt.runtime.cases.images import FolderImages
from xrt.runtime.cases.options import ReadOptions
from xrt.runtime.cases.table import CaseTable
from xrt.runtime.errors import DataError

ENTRIES = "Data_Entry_2017.csv"
BOXES = "BBox_List_2017.csv"
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
NO_FINDING = "No Finding"
CLASSES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
# The box list alone spells one label differently.
_BOX_SPELLING = {"Infiltrate": "Infiltration"}
_REQUIRED = ("Image Index", "Finding Labels", "Patient ID")


def recognises(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return (path / ENTRIES).is_file()


def read(path: Path, options: ReadOptions) -> CaseTable:
    """Read a folder in this layout as a multilabel table.

    Without `options.classes` the classes are the labels that occur, in the order of the paper and then by
    name. `No Finding` is a class only where it is asked for. Raises DataError.
    """
    files = _image_files(path)
    boxes = _boxes(path / BOXES)
    official = _official_lists(path)
    cases, missing = [], []
    for row in _rows(path / ENTRIES):
        name = row["Image Index"]
        if name not in files:
            missing.append(name)
            continue
        labels = tuple(label.strip() for label in row["Finding Labels"].split("|") if label.strip())
        case = Case(
            key=files[name],
            labels=labels,
            patient=row["Patient ID"],
            view=row.get("View Position") or None,
            sex=row.get("Patient Gender") or None,
            age=_years(row.get("Patient Age") or ""),
            boxes=boxes.get(name, ()),
            split=official.get(name),
        )
        cases.append(case)
    options.require_images(missing, len(cases) + len(missing), str(path / ENTRIES))
    present = {label for case in cases for label in case.labels} - {NO_FINDING, *(options.ignore or ())}
    classes = options.classes or (*(c for c in CLASSES if c in present), *sorted(present - set(CLASSES)))
    if not classes:
        raise DataError(f"{path / ENTRIES} has no label but {NO_FINDING!r}; name the classes (data.classes)")
    options.require_known_labels(cases, {NO_FINDING, *classes}, str(path / ENTRIES))
    # The folder's own name: phantoms and subsets come in this layout too, and must not pass for the data set.
    name = f"{path.resolve().name} (NIH ChestX-ray14 layout)"
    return CaseTable(name, path, "multilabel", classes, tuple(cases), FolderImages(path), len(missing))


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, skipinitialspace=True)
        columns = [column.strip() for column in reader.fieldnames or ()]
        for column in _REQUIRED:
            if column not in columns:
                raise DataError(f"{file} has no column {column!r}; its columns are {', '.join(columns) or 'none'}")
        reader.fieldnames = columns
        rows = []
        seen: set[str] = set()
        for number, row in enumerate(reader, 2):
            if any(not row[column] for column in _REQUIRED):
                raise DataError(f"{file}, line {number}: {', '.join(_REQUIRED)} must not be empty; complete the row")
            if row["Image Index"] in seen:
                raise DataError(f"{file}, line {number}: {row['Image Index']} is listed twice; remove one row")
            seen.add(row["Image Index"])
            rows.append(row)
    if not rows:
        raise DataError(f"{file} has a header but no rows; give the complete file")
    return rows


def _image_files(root: Path) -> dict[str, str]:
    """The path relative to `root` of every file in the image folders, by file name."""
    folders = [root / "images", *sorted(root.glob("images_*/images")), *sorted(root.glob("images_*"))]
    files: dict[str, str] = {}
    for folder in folders:
        if folder.is_dir():
            for file in folder.iterdir():
                files.setdefault(file.name, file.relative_to(root).as_posix())
    return files


def _years(text: str) -> int | None:
    """Whole years from `60`, `060Y`, `018M` or `020D`; None for the impossible ages that the set contains."""
    match = re.fullmatch(r"0*(\d+)([YMD]?)", text.strip())
    if not match:
        return None
    years = int(match[1]) // {"": 1, "Y": 1, "M": 12, "D": 365}[match[2]]
    return years if years <= 120 else None


def _boxes(file: Path) -> dict[str, tuple[Box, ...]]:
    """Boxes by image name. The header's three empty columns belong to `Bbox [x,y,w,h]`: read by place."""
    boxes: dict[str, tuple[Box, ...]] = {}
    if not file.is_file():
        return boxes
    with file.open(newline="", encoding="utf-8-sig") as stream:
        for number, row in enumerate(csv.reader(stream), 1):
            if number == 1 or not any(row):
                continue
            try:
                name, label = row[0], row[1]
                box = Box(_BOX_SPELLING.get(label, label), *(float(value) for value in row[2:6]))
            except (IndexError, TypeError, ValueError):
                raise DataError(
                    f"{file}, line {number}: expected image, label, x, y, width, height, not {','.join(row)!r};"
                    " correct or remove the row"
                ) from None
            boxes[name] = (*boxes.get(name, ()), box)
    return boxes


def _official_lists(root: Path) -> dict[str, str]:
    """The official part of every listed image. Raises DataError if an image stands in both lists."""
    part: dict[str, str] = {}
    for split, file in LISTS.items():
        if not (root / file).is_file():
            continue
        for name in (root / file).read_text(encoding="utf-8-sig").split():
            if part.setdefault(name, split) != split:
                raise DataError(f"{root}: {name} stands in {' and in '.join(LISTS.values())}; remove it from one")
    return part
