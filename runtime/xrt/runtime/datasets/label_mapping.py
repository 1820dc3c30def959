"""From a data set's labels to the classes that were asked for, the same way for every layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xrt.runtime._io import comma_list, on_one_line
from xrt.runtime.bundle.manifest import Task
from xrt.runtime.datasets.case import NO_FINDING, Case
from xrt.runtime.datasets.label_groups import Groups, LabelGroups, assign_groups, count_labels
from xrt.runtime.datasets.labelled_set import LabelledSet
from xrt.runtime.datasets.options import ReadOptions
from xrt.runtime.datasets.table import CaseTable
from xrt.runtime.errors import DataError
from xrt.runtime.phantoms.files import are_phantoms

_SYNTHETIC = (
    "These are synthetic phantoms in the layout of the data set, not patients; figures say nothing about people."
)
_NO_PATIENTS = (
    "No patient is known, so every image counts as its own: images of one patient may be on both sides of a split,"
    " and test figures may be too good."
)


def map_labels(dataset: LabelledSet, options: ReadOptions, task: Task | None = None) -> CaseTable:
    """The table of a reading.

    Classes are the groups asked for, else the classes asked for, else the set's own. They are exclusive where groups
    were asked for or the set's labels are; a `task` decides that instead. Raises DataError if too many images are
    missing, labels are in no class and not ignored, an image belongs to two exclusive classes, or none to any, there is
    but one exclusive class, or a name cannot be written.
    """
    _require_images(dataset, options.allow_missing)
    groups = labels_of_classes(dataset, options)
    _require_names(dataset, groups)
    label_groups = LabelGroups(groups)
    exclusive = task != "multilabel" if task else options.groups is not None or dataset.exclusive
    cases = assign_groups(_prepared(dataset.cases, options), label_groups, exclusive=exclusive)
    if not cases:
        raise DataError(
            f"{dataset.listed_in}: no image belongs to any of {', '.join(groups)}; the labels are"
            f" {comma_list(sorted(count_labels(dataset.cases)))}. Name some of these (data.classes,"
            " data.groups)."
        )
    if exclusive and len(groups) < 2:
        raise DataError(
            f"{dataset.listed_in}: the only class is {', '.join(groups)}, and an image has just one, so"
            " there is nothing to distinguish; name two classes or more (data.classes), or add images of another one"
        )
    if task is None:
        task = "multilabel" if not exclusive else "binary" if len(groups) == 2 else "multiclass"
    left_out = len(dataset.cases) - len(cases)
    notes = _notes(dataset, cases, options)
    return CaseTable(
        dataset.name,
        dataset.root,
        task,
        tuple(groups),
        tuple(cases),
        dataset.images,
        dataset.missing,
        left_out,
        notes,
        dataset.named_by_place,
    )


def labels_of_classes(dataset: LabelledSet, options: ReadOptions) -> Groups:
    """The classes in their order, and the labels that count as each.

    Raises DataError if there is none, or labels are in none and not ignored.
    """
    groups = options.groups or dataset.groups
    if groups and (options.groups or options.classes is None or set(options.classes) == set(groups)):
        return {name: groups[name] for name in options.classes or groups}
    classes = options.classes or tuple(label for label in dataset.labels if label not in (options.ignore or ()))
    if not classes:
        raise DataError(f"{dataset.listed_in} has no label but {NO_FINDING!r}; name the classes (data.classes)")
    if options.ignore is not None:
        accepted = {*classes, *options.ignore} | (set() if dataset.exclusive else {NO_FINDING})
        _require_known_labels(dataset, accepted)
    return {name: (name,) for name in classes}


def _prepared(cases: Sequence[Case], options: ReadOptions) -> list[Case]:
    """The cases with the patients that the pattern finds, and without ignored labels."""
    ignored = set(options.ignore or ())
    return [
        replace(
            case,
            patient=options.patient(case.key, case.patient),
            labels=tuple(label for label in case.labels if label not in ignored),
        )
        for case in cases
    ]


def _require_images(dataset: LabelledSet, allowed: float) -> None:
    missing, rows = dataset.missing, len(dataset.cases) + len(dataset.missing)
    if not rows:
        raise DataError(f"{dataset.listed_in} lists no image; give the complete data set")
    if not dataset.cases or len(missing) > allowed * rows:
        raise DataError(
            f"{dataset.listed_in}: {len(missing)} of {rows} images are not on disk (for example"
            f" {', '.join(missing[:3])}), and {allowed:.0%} may be missing. Unpack the rest of the images, or allow a"
            " larger share (data.allow_missing)."
        )


def _require_names(dataset: LabelledSet, groups: Groups) -> None:
    """Names of classes and images end in tables, JSON and reports."""
    for name in groups:
        if not name.strip() or not name.isprintable():
            raise DataError(f"{dataset.listed_in}: {name!r} is no name of a class; rename it, in printable characters")
    lowered = {name.casefold(): name for name in groups}
    if twins := [name for name in groups if lowered[name.casefold()] != name]:
        raise DataError(
            f"{dataset.listed_in}: the classes {twins[0]!r} and {lowered[twins[0].casefold()]!r} differ in capitals"
            " alone; write them alike, or make one class of them (data.groups)"
        )
    for case in dataset.cases:
        if on_one_line(case.key) != case.key:
            raise DataError(f"{dataset.listed_in}: the file name {on_one_line(case.key)} cannot be written; rename it")


def _require_known_labels(dataset: LabelledSet, accepted: set[str]) -> None:
    counts = sorted(count_labels(dataset.cases).items())
    if others := [f"{label} ({count} images)" for label, count in counts if label not in accepted]:
        raise DataError(
            f"{dataset.listed_in} has labels outside the classes asked for: {comma_list(others)}. Add them to the"
            " classes (data.classes), or to the ignored labels (data.ignore_labels) to count them as absent."
        )


def _notes(dataset: LabelledSet, cases: Sequence[Case], options: ReadOptions) -> tuple[str, ...]:
    notes = [_SYNTHETIC] if are_phantoms(dataset.root) else list(dataset.notes)
    if all(case.patient == case.key for case in cases):
        notes.append(_NO_PATIENTS)
    known = {*dataset.labels, *count_labels(dataset.cases)}
    if unknown := sorted(LabelGroups(options.groups or {}).labels - known):
        notes.append(f"The groups name labels that no image has: {', '.join(unknown)}.")
    return tuple(notes)
