"""MedMNIST v2 (Yang et al., Scientific Data 2023): one `.npz` of small images with its own three splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.datasets.case import Case
from xrt.runtime.datasets.images import ArrayImages
from xrt.runtime.datasets.labelled_set import LabelledSet
from xrt.runtime.errors import DataError

SPLITS = ("train", "val", "test")
# By the file's stem without its resolution (`pneumoniamnist_128`).
LABELS = {
    "pneumoniamnist": ("normal", "pneumonia"),
    "chestmnist": (
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural",
        "hernia",
    ),
}


def recognises(path: Path) -> bool:
    """Whether `path` is an array file; whether it is whole and has images and labels, reading says."""
    return path.suffix.lower() == ".npz" and path.is_file()


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read images uint8 [n, H, W] and labels [n, 1] (class indices) or [n, k] (0 or 1) of every split.

    Indices are exclusive labels, columns independent ones. Their names are known by the file's name; others than these
    in `classes` name indices or columns by place. No patients are known. Raises DataError.
    """
    images, labels = _arrays(path)
    columns = {array.shape[1] for array in labels.values()}
    if len(columns) > 1:
        raise DataError(f"{path}: the splits have {sorted(columns)} label columns; all must have the same number")
    width = columns.pop()
    highest = max((int(array.max()) for array in labels.values() if array.size), default=0)
    if width > 1 and highest > 1:
        raise DataError(f"{path}: the labels have {width} columns and the value {highest}; columns hold 0 or 1")
    names = _names(path, width if width > 1 else max(2, highest + 1), classes, exclusive=width == 1)
    cases = []
    for split, array in labels.items():
        for row, values in enumerate(array):
            indices = values if width == 1 else np.flatnonzero(values)
            key = f"{split}/{row}"
            cases.append(Case(key, tuple(names[int(i)] for i in indices), patient=key, split=split))
    return LabelledSet(
        name=path.stem,
        root=path,
        cases=tuple(cases),
        images=ArrayImages(images),
        labels=names,
        exclusive=width == 1,
        listed_in=path,
        named_by_place=not _known_by(path, names),
    )


def _known_by(path: Path, names: tuple[str, ...]) -> bool:
    """Whether these are the names that the publisher gives the labels of this file, whatever their capitals."""
    known = LABELS.get(path.stem.lower().split("_")[0], ())
    return {name.casefold() for name in names} <= {name.casefold() for name in known}


def _names(path: Path, count: int, classes: tuple[str, ...] | None, *, exclusive: bool) -> tuple[str, ...]:
    known = LABELS.get(path.stem.lower().split("_")[0])
    names = known if known and set(classes or known) <= set(known) else classes
    if names is None:
        raise DataError(f"{path}: the names of its {count} classes are not known; name them (data.classes)")
    # An index that no image has may still be a class, so more names than indices are fine.
    if len(names) != count and not (exclusive and len(names) > count > 2):
        raise DataError(f"{path} has {count} classes, but {len(names)} are named: {', '.join(names)}")
    return names


def _arrays(path: Path) -> tuple[dict[str, UInt8[np.ndarray, "n h w"]], dict[str, np.ndarray]]:
    arrays = _content(path)
    images, labels = {}, {}
    for split in SPLITS:
        names = f"{split}_images", f"{split}_labels"
        for name in names:
            if name not in arrays:
                raise DataError(
                    f"{path} has no array {name!r}; a MedMNIST file has images and labels of {', '.join(SPLITS)}"
                )
        image, label = arrays[names[0]], arrays[names[1]]
        if image.ndim != 3 or image.dtype != np.uint8 or 0 in image.shape[1:]:
            raise DataError(f"{path}: {names[0]} is {image.dtype} {list(image.shape)}; expected grey uint8 [n, H, W]")
        fits = label.ndim == 2 and label.shape[1] > 0 and len(label) == len(image) and label.dtype.kind in "ui"
        if not fits or label.min(initial=0) < 0:
            raise DataError(
                f"{path}: {names[1]} is {label.dtype} {list(label.shape)} for {len(image)} images; expected whole"
                f" numbers from 0, [{len(image)}, 1] class indices or [{len(image)}, k] of 0 and 1"
            )
        images[split], labels[split] = image, label
    return images, labels


def _content(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file. Without pickle: an array file cannot run code."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
