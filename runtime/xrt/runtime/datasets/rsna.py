"""RSNA Pneumonia Detection Challenge (Shih et al., Radiology: Artificial Intelligence 2019, e180041), stage 2.

    stage_2_train_labels.csv            patientId,x,y,width,height,Target: one row per box, negatives have one as well
    stage_2_detailed_class_info.csv     patientId,class: as many rows per image as it has boxes, all alike
    stage_2_train_images/ID.dcm
    pneumonia-challenge-dataset-mappings_2018.json      optional: which NIH image each one is

A `patientId` names one image, and NIH patients have several: only the mapping, which the RSNA publishes beside the
challenge, says whose each image is. View, sex and age come from the DICOM headers, which are read when the set is
opened: half a millisecond an image, ten to fifteen seconds for all 26,684.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from xrt.runtime.datasets.case import Case, LabelledBox, box_of
from xrt.runtime.datasets.csv_reader import read_rows, read_text
from xrt.runtime.datasets.headers import Header, read_headers
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.datasets.labelled_set import LabelledSet
from xrt.runtime.errors import DataError

TARGETS = "stage_2_train_labels.csv"
DETAILS = "stage_2_detailed_class_info.csv"
IMAGES = "stage_2_train_images"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
OPACITY = "Lung Opacity"
DETAILED = ("Normal", "No Lung Opacity / Not Normal", OPACITY)
# The challenge's own question, negative first.
GROUPS = {"No Lung Opacity": DETAILED[:2], OPACITY: DETAILED[2:]}
NOTE = (
    "The images of the RSNA Pneumonia Detection Challenge are 30,000 of NIH ChestX-ray14, labelled again by"
    " radiologists (Shih et al., Radiology: Artificial Intelligence 2019): what was trained on one is not"
    " independent of the other."
)
_NO_MAPPING = (
    "A patientId of the challenge names an image, not a person: one patient may be on both sides of a split. Put the"
    f" RSNA's {MAPPING} beside the tables to split by the NIH's patients."
)


def recognises(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    return (path / TARGETS).is_file()


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read a folder in this layout: the detailed class of every image, two classes made of them, boxes of opacities.

    Raises DataError if the tables are incomplete or contradict each other or themselves, MissingDependency without
    pydicom.
    """
    boxes, kinds = _targets(path / TARGETS), _detailed_classes(path / DETAILS)
    for file, rows, others in ((DETAILS, kinds, boxes), (TARGETS, boxes, kinds)):
        if absent := [name for name in others if name not in rows]:
            raise DataError(f"{path / file} has no row for {absent[0]} ({len(absent)} in all); give the complete file")
    for name, kind in kinds.items():
        if bool(boxes[name]) != (kind == OPACITY):
            raise DataError(
                f"{path}: {name} has Target {int(bool(boxes[name]))} in {TARGETS} and is {kind!r} in {DETAILS}; correct"
                " one of them"
            )
    files = _image_names(path / IMAGES)
    keys = {name: f"{IMAGES}/{name}.dcm" for name in boxes}
    present = {name: key for name, key in keys.items() if Path(key).name in files}
    patients = _patients(path / MAPPING)
    headers = read_headers([path / key for key in present.values()])
    cases = [
        _case(key, kinds[name], boxes[name], patients.get(name, name), header)
        for (name, key), header in zip(present.items(), headers, strict=True)
    ]
    return LabelledSet(
        name=f"{path.resolve().name} (RSNA Pneumonia Detection Challenge layout)",
        root=path,
        cases=tuple(cases),
        images=FolderImages(path),
        labels=DETAILED,
        exclusive=True,
        listed_in=path / TARGETS,
        groups=GROUPS,
        missing=tuple(key for name, key in keys.items() if name not in present),
        notes=(NOTE,) if patients else (NOTE, _NO_MAPPING),
    )


def _case(key: str, kind: str, boxes: tuple[LabelledBox, ...], patient: str, header: Header) -> Case:
    return Case(
        key=key,
        labels=(kind,),
        patient=patient,
        view=header.view,
        sex=header.sex,
        age=header.age,
        boxes=boxes,
    )


def _targets(file: Path) -> dict[str, tuple[LabelledBox, ...]]:
    """The boxes of every image; none means Target 0."""
    boxes: dict[str, tuple[LabelledBox, ...]] = {}
    for line, row in read_rows(file, columns=("x", "y", "width", "height"), filled=("patientId", "Target"))[1]:
        name, box = row["patientId"], _box(f"{file}, line {line}", row)
        if name in boxes and (box is None or not boxes[name]):
            raise DataError(
                f"{file}, line {line}: {name} is listed twice, with Target 0; keep one row, or only rows with boxes"
            )
        if box in boxes.get(name, ()):
            raise DataError(f"{file}, line {line}: the same box of {name} is listed twice; remove one row")
        boxes[name] = (*boxes.get(name, ()), *([box] if box else []))
    return boxes


def _box(where: str, row: dict[str, str]) -> LabelledBox | None:
    sides = [row[side] for side in ("x", "y", "width", "height")]
    try:
        box = box_of(OPACITY, sides) if any(sides) else None
        if {"0": box is None, "1": box is not None}[row["Target"]]:
            return box
    except (KeyError, ValueError):
        pass
    raise DataError(
        f"{where}: expected Target 1 with a box or Target 0 without one, not {','.join(row.values())!r}; correct or"
        " remove the row"
    )


def _detailed_classes(file: Path) -> dict[str, str]:
    if not file.is_file():
        raise DataError(f"{file} is not there; it belongs to the challenge's files, beside {TARGETS}")
    kinds: dict[str, str] = {}
    for line, row in read_rows(file, filled=("patientId", "class"))[1]:
        name, kind = row["patientId"], row["class"]
        if kind not in DETAILED:
            raise DataError(f"{file}, line {line}: class {kind!r} is none of {', '.join(DETAILED)}; correct the row")
        if kinds.setdefault(name, kind) != kind:
            raise DataError(
                f"{file}, line {line}: {name} is {kind!r} here and {kinds[name]!r} above; correct one of the rows"
            )
    return kinds


def _patients(file: Path) -> dict[str, str]:
    """The NIH's patient of every image, from the RSNA's mapping; empty without one."""
    if not file.is_file():
        return {}
    try:
        # NIH file names are patient and follow-up number: 00013118_008.png.
        return {entry["subset_img_id"]: entry["img_id"].partition("_")[0] for entry in json.loads(read_text(file))}
    except (json.JSONDecodeError, TypeError, KeyError, AttributeError):
        raise DataError(
            f"{file} is not the RSNA's list of subset_img_id and img_id; download it again or remove it"
        ) from None


def _image_names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.is_file()}
