"""`open_cases`: recognise a data set by its layout. Adding a layout is one module and one line in `READERS`."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xrt.runtime.cases import medmnist, nih
from xrt.runtime.cases.options import ReadOptions
from xrt.runtime.cases.table import CaseTable
from xrt.runtime.errors import DataError

DAMAGE = (ValueError, OSError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)
"""What the readers of text, tables and archives raise on files that are damaged, or in another encoding."""


@dataclass(frozen=True)
class Reader:
    """One layout: what it is called, what marks it, how it is recognised and how it is read."""

    name: str
    mark: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], CaseTable]


READERS: tuple[Reader, ...] = (
    Reader("NIH ChestX-ray14", f"a folder with {nih.ENTRIES}", nih.recognises, nih.read),
    Reader("MedMNIST", "a .npz file with train_images and train_labels", medmnist.recognises, medmnist.read),
)


def recognised(path: Path) -> bool:
    """Whether `path` has the layout of a labelled data set."""
    return any(reader.recognises(path) for reader in READERS)


def open_cases(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: Sequence[str] | None = (),
    allow_missing: float = 0.05,
) -> CaseTable:
    """Open a labelled data set whose layout is one of `READERS`.

    `classes` fixes the classes and their order (default: those of the data set); `ignore` names labels that
    may occur and count as absent (None: all that are not in `classes`); `allow_missing` is the share of rows,
    0..1, whose image file may be absent. Raises DataError if the layout is not recognised or does not hold
    together; the message names the file, column or label, and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give the folder or file of a labelled data set")
    options = ReadOptions(
        tuple(classes) if classes is not None else None,
        None if ignore is None else tuple(ignore),
        allow_missing,
    )
    for reader in READERS:
        if reader.recognises(path):
            try:
                return reader.read(path, options)
            except (*DAMAGE, MemoryError) as error:
                reason = str(error) or type(error).__name__
                raise DataError(
                    f"{path} cannot be read as {reader.name} ({reason}): copy or correct its files"
                ) from error
    known = "; ".join(f"{reader.name} is {reader.mark}" for reader in READERS)
    raise DataError(f"{path} is no data set that xrt knows, or its file of labels is missing. Layouts: {known}.")
