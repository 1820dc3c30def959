"""`open_dataset`: recognise a data set by its layout. Adding a layout is one module and one line in `READERS`."""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from xrt.runtime._io import comma_list
from xrt.runtime.bundle.manifest import ClassSpec, Task
from xrt.runtime.datasets import covid, folders, image_list, medmnist, nih, rsna
from xrt.runtime.datasets.case import NO_FINDING
from xrt.runtime.datasets.label_groups import LabelGroups, count_labels
from xrt.runtime.datasets.label_mapping import labels_of_classes, map_labels
from xrt.runtime.datasets.labelled_set import LabelledSet
from xrt.runtime.datasets.options import ReadOptions
from xrt.runtime.datasets.table import CaseTable
from xrt.runtime.errors import DataError, UsageError

DAMAGE = (ValueError, OSError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error)
"""What the readers of text, tables and archives raise on files that are damaged, or in another encoding."""


@dataclass(frozen=True)
class Reader:
    """One layout: what it is called, what marks it, how it is recognised and how it is read."""

    name: str
    mark: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, tuple[str, ...] | None], LabelledSet]


# The first that recognises a path reads it, so the most particular layouts come first.
READERS: tuple[Reader, ...] = (
    Reader("NIH ChestX-ray14", f"a folder with {nih.ENTRIES}", nih.recognises, nih.read),
    Reader("RSNA Pneumonia Detection Challenge", f"a folder with {rsna.TARGETS}", rsna.recognises, rsna.read),
    Reader(
        "COVID-19 Radiography",
        f"a folder with images/ in two or more of {', '.join(covid.LABELS)}",
        covid.recognises,
        covid.read,
    ),
    Reader("MedMNIST", "a .npz file with train_images and train_labels", medmnist.recognises, medmnist.read),
    Reader("a list", "a .csv file with a column path and labels", image_list.recognises, image_list.read),
    Reader("class folders", "a folder with a folder of images for every class", folders.recognises, folders.read),
)


@runtime_checkable
class Classifier(Protocol):
    """Anything that knows its classes: the manifest of a bundle, or a model about to become one."""

    @property
    def task(self) -> Task: ...  # noqa: D102

    @property
    def classes(self) -> tuple[ClassSpec, ...]: ...  # noqa: D102


def is_dataset(path: Path) -> bool:
    """Whether `path` has the layout of a labelled data set."""
    return any(reader.recognises(path) for reader in READERS)


def open_dataset(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    ignore: Sequence[str] | None = (),
    allow_missing: float = 0.05,
    groups: Mapping[str, Sequence[str]] | None = None,
    patient_pattern: str | None = None,
) -> CaseTable:
    """Open a labelled data set whose layout is one of `READERS`.

    `classes` fixes the classes and their order (default: those of the data set). `ignore` names labels that may occur
    and count as absent (None: all that are not in `classes`). `allow_missing` is the fraction of listed images, 0..1,
    whose file may be absent.

    `groups` makes exclusive classes out of labels, `{"normal": ["No Finding"], "abnormal": ["*"]}`: an image belongs
    to the one group that names any of its labels; `*`, in one group at most, takes every image of no other group.
    Two groups make a binary table, negative first, more a multiclass one. Images of exclusive classes that belong to
    none are left out and counted.

    `patient_pattern` is a regular expression whose first group, searched in the key, names the patient.

    Raises UsageError for arguments that contradict themselves. Raises DataError if the layout is not recognised or does
    not hold together, or an image belongs to two groups; the message names the file, image, column or label, and the
    remedy.
    """
    if groups is not None and len(groups) < 2:
        raise UsageError(
            f"the only group is {', '.join(groups) or 'missing'}; groups make exclusive classes, so give two or more"
            " (data.groups)"
        )
    options = ReadOptions(
        tuple(classes) if classes is not None else None,
        None if ignore is None else tuple(ignore),
        allow_missing,
        groups,
        patient_pattern,
    )
    # With groups, `classes` orders the groups and says nothing about labels.
    return map_labels(_read(Path(path), options.classes if groups is None else None), options)


def open_dataset_for(
    model: Classifier, path: str | Path, *, allow_missing: float = 0.05, patient_pattern: str | None = None
) -> CaseTable:
    """Open a labelled data set with the classes of a bundle's manifest, or of another classifier.

    Where classes say which labels count as them (`ClassSpec.labels`), these are taken, else those of the class's own
    name; other labels are ignored. The table has the model's task: labels of any layout are independent for a
    multilabel model, and images of no class are left out for the others.

    Raises what `open_dataset` raises, and DataError if the labels are not the model's: none of its classes occurs, or
    of exclusive ones not all, while there are images of other labels.
    """
    names = tuple(spec.name for spec in model.classes)
    has_labels = any(spec.labels for spec in model.classes)
    groups = {spec.name: spec.labels or (spec.name,) for spec in model.classes} if has_labels else None
    options = ReadOptions(names, None, allow_missing, groups, patient_pattern)
    dataset = _read(Path(path), None if has_labels else names)
    _require_classes(dataset, LabelGroups(labels_of_classes(dataset, options)), model.task)
    return map_labels(dataset, options, model.task)


def _read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist; give the folder or file of a labelled data set")
        reader = next((reader for reader in READERS if reader.recognises(path)), None)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; check the path and its permissions") from error
    if reader is not None:
        try:
            return reader.read(path, classes)
        except (*DAMAGE, MemoryError) as error:
            reason = str(error) or type(error).__name__
            raise DataError(f"{path} cannot be read as {reader.name} ({reason}): copy or correct its files") from error
    known = "; ".join(f"{reader.name} is {reader.mark}" for reader in READERS)
    raise DataError(f"{path} is no data set that xrt knows, or its file of labels is missing. Layouts: {known}.")


def _require_classes(dataset: LabelledSet, label_groups: LabelGroups, task: Task) -> None:
    """Raise DataError if the set's labels are others than the classes, so that figures would mean nothing.

    A class that no image has is legal, as long as there are no images of other labels that it may be meant to name.
    """
    independent = task == "multilabel"
    present = {name for case in dataset.cases for name in label_groups.of_image(case.labels)}
    absent = [name for name in label_groups.names if name not in present]
    others = sorted(label for label in count_labels(dataset.cases) if label_groups.of_label(label) is None)
    if independent:
        others = [label for label in others if label != NO_FINDING]
    elif not all(case.labels or label_groups.of_image(()) for case in dataset.cases):
        others.append("no label")
    if others and absent and not (independent and present):
        raise DataError(
            f"{dataset.listed_in} has no image of {', '.join(absent)}, but images of {comma_list(others)}; the model's"
            f" classes are {', '.join(label_groups.names)}. Give a data set with these labels, or list its images with"
            " them in a CSV file of paths and labels."
        )
