"""Class folders: a folder of images for every class, with or without official parts above them.

    ROOT/CLASS/*.png                                          two classes or more
    ROOT/train/CLASS/*.png, ROOT/val/CLASS/*.png, ROOT/test/CLASS/*.png

Images may lie deeper inside a class's folder. Folders named `masks` hold no images. A folder that directly holds
images, or whose folders are named after images (`images_001`), has no classes; nor are folders that systems make
(`.git`, `__MACOSX`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from xrt.runtime._io import image_files
from xrt.runtime.datasets.case import Case
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.datasets.labelled_set import LabelledSet, negative_first
from xrt.runtime.errors import DataError

PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom", ".dic")
MASKS = "masks"
_NO_CLASS = re.compile(r"^\.|^__|(^|_)(images?|masks?)(_|$)", re.IGNORECASE)


def recognises(path: Path) -> bool:
    """Whether `path` is a folder in this layout."""
    if not path.is_dir() or _holds_images(path):
        return False
    if parts := _parts(path):
        return any(_holds_images(folder) for _, part in parts for folder in _class_folders(part))
    folders = _class_folders(path)
    return len(folders) > 1 and any(map(_holds_images, folders))


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read a folder in this layout: exclusive classes by name, names of health first. Raises DataError."""
    parts = _parts(path)
    names = [part for part, _ in parts]
    if len(set(names)) < len(names):
        raise DataError(f"{path} has several folders for validation: keep one of valid, validation and val")
    class_folders = [(f.name, f, part) for part, folder in parts or [(None, path)] for f in _class_folders(folder)]
    labels = negative_first({label for label, _, _ in class_folders})
    return read_folders(f"{path.resolve().name} (class folders)", path, class_folders, labels)


def read_folders(
    name: str,
    root: Path,
    folders: Iterable[tuple[str, Path, str | None]],
    order: Sequence[str],
    notes: tuple[str, ...] = (),
) -> LabelledSet:
    """Exclusive classes from (label, folder, official part) triples; a class without images stays a class."""
    cases: list[Case] = []
    present: set[str] = set()
    unread: list[str] = []
    for label, folder, part in folders:
        present.add(label)
        for file in image_files(folder):
            key = file.relative_to(root).as_posix()
            if file.suffix.lower() in SUFFIXES:
                if MASKS not in file.relative_to(folder).parts[:-1]:
                    cases.append(Case(key, (label,), patient=key, split=part))
            elif file.is_dir():
                raise DataError(f"{file} cannot be listed; check its permissions")
            else:
                unread.append(key)
    if unread:
        notes = (*notes, f"Files that are no images by their ending are not read: {len(unread)}, such as {unread[0]}.")
    return LabelledSet(
        name=name,
        root=root,
        cases=tuple(cases),
        images=FolderImages(root),
        labels=tuple(label for label in order if label in present),
        exclusive=True,
        listed_in=root,
        notes=notes,
    )


def _parts(root: Path) -> list[tuple[str, Path]]:
    """Official parts and their folders, if the folder has any; others beside them are not read."""
    return [(PARTS[folder.name.lower()], folder) for folder in _subfolders(root) if folder.name.lower() in PARTS]


def _class_folders(folder: Path) -> list[Path]:
    return [child for child in _subfolders(folder) if not _NO_CLASS.search(child.name)]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in _entries(folder) if entry.is_dir())


def _holds_images(folder: Path) -> bool:
    return any(entry.name.lower().endswith(SUFFIXES) and entry.is_file() for entry in _entries(folder))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where it cannot be listed, which reading reports."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
