"""NIH ChestX-ray14 (Wang et al., CVPR 2017, arXiv 1705.02315) as published, and the copies that differ from it.

    Data_Entry_2017.csv                         one row per image; labels joined by `|`; `No Finding` when none
    images/*.png  or  images_001/images/*.png   one flat folder, or the parts as they are downloaded
    BBox_List_2017.csv                          optional: boxes of some test images
    train_val_list.txt, test_list.txt           optional: the official split

The published header has unquoted commas (`OriginalImage[Width,Height]`) and so names 11 fields, which is what
the rows have; other copies write `OriginalImageWidth`. Columns are therefore found by name, never by place.
"""

from __future__ import annotations

import os
from pathlib import Path

from xrt.runtime.datasets.case import NO_FINDING, Case, LabelledBox, box_of, whole_years
from xrt.runtime.datasets.csv_reader import read_cells, read_rows, read_text
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.datasets.labelled_set import LabelledSet, occurring
from xrt.runtime.errors import DataError

ENTRIES = "Data_Entry_2017.csv"
BOXES = "BBox_List_2017.csv"
LISTS = {"train_val": "train_val_list.txt", "test": "test_list.txt"}
LABELS = (
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
NOTE = (
    "The labels of NIH ChestX-ray14 were mined from radiology reports by text processing; nobody read the images for"
    " them. Its publishers expect more than 90 % of them to be right (README of the data set; Wang et al., CVPR 2017,"
    " arXiv 1705.02315), so up to one in ten may be wrong, in the test part too."
)
# The box list alone spells one label differently.
_BOX_SPELLING = {"Infiltrate": "Infiltration"}


def recognises(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return (path / ENTRIES).is_file()


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read a folder in this layout: independent labels, in the order of the paper and then by name.

    Raises DataError for tables that do not hold together, an image listed twice or found in two folders.
    """
    _, rows = read_rows(path / ENTRIES, filled=("Image Index", "Finding Labels", "Patient ID"))
    files, boxes, official = _image_files(path), _boxes(path / BOXES), _official_lists(path)
    cases: dict[str, Case] = {}
    missing: dict[str, None] = {}
    for line, row in rows:
        name = row["Image Index"]
        if name in cases or name in missing:
            raise DataError(f"{path / ENTRIES}, line {line}: {name} is listed twice; remove one row")
        labels = tuple(label.strip() for label in row["Finding Labels"].split("|") if label.strip())
        if NO_FINDING in labels and len(labels) > 1:
            raise DataError(
                f"{path / ENTRIES}, line {line}: {name} has {NO_FINDING!r} beside other labels,"
                f" {row['Finding Labels']!r}; correct the row"
            )
        if name not in files:
            missing[name] = None
            continue
        cases[name] = Case(
            key=files[name],
            labels=labels,
            patient=row["Patient ID"],
            view=row.get("View Position") or None,
            sex=row.get("Patient Gender") or None,
            age=whole_years(row.get("Patient Age", "")),
            boxes=boxes.get(name, ()),
            split=official.get(name),
        )
    return LabelledSet(
        # The folder's own name: phantoms and subsets come in this layout too, and must not pass for the data set.
        name=f"{path.resolve().name} (NIH ChestX-ray14 layout)",
        root=path,
        cases=tuple(cases.values()),
        images=FolderImages(path),
        labels=occurring(cases.values(), LABELS),
        exclusive=False,
        listed_in=path / ENTRIES,
        missing=tuple(missing),
        notes=(NOTE,),
    )


def _image_files(root: Path) -> dict[str, str]:
    """The path relative to `root` of every file in the image folders, by file name.

    Raises DataError if two different files have one name, since the table cannot say which is meant.
    """
    files: dict[str, str] = {}
    for folder in (root / "images", *sorted(root.glob("images_*/images")), *sorted(root.glob("images_*"))):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_file():
                    continue
                path = Path(entry.path).relative_to(root).as_posix()
                first = files.setdefault(entry.name, path)
                # A flat folder of links to the parts is a common way to have both.
                if first != path and not (root / first).samefile(entry.path):
                    raise DataError(f"{root}: {first} and {path} have one name; remove one of them")
    return files


def _boxes(file: Path) -> dict[str, tuple[LabelledBox, ...]]:
    """Boxes by image name. The header's three empty columns belong to `Bbox [x,y,w,h]`: read by place."""
    boxes: dict[str, tuple[LabelledBox, ...]] = {}
    if not file.is_file():
        return boxes
    for line, cells in list(read_cells(file))[1:]:
        try:
            name, label, *sides = cells[:6]
            box = box_of(_BOX_SPELLING.get(label, label), sides)
        except ValueError:
            raise DataError(
                f"{file}, line {line}: expected image, label, x, y, width, height, not {','.join(cells)!r};"
                " correct or remove the row"
            ) from None
        boxes[name] = (*boxes.get(name, ()), box)
    return boxes


def _official_lists(root: Path) -> dict[str, str]:
    """The official part of every listed image. Raises DataError if an image is in both lists."""
    part: dict[str, str] = {}
    for split, file in LISTS.items():
        if not (root / file).is_file():
            continue
        for name in read_text(root / file).split():
            if part.setdefault(name, split) != split:
                raise DataError(f"{root}: {name} is in {' and in '.join(LISTS.values())}; remove it from one")
    return part
