"""What a reader hands over: a data set's images and its own labels, before classes are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xrt.runtime.datasets.case import NO_FINDING, Case
from xrt.runtime.datasets.images import ImageSource
from xrt.runtime.datasets.label_groups import Groups, count_labels

_NEGATIVE = {"normal", "no finding", "no_finding", "nofinding", "negative", "healthy", "control", "0"}


@dataclass(frozen=True)
class LabelledSet:
    """One data set as its publishers labelled it.

    `labels` are those that become classes unless the caller names others, in order; `exclusive` says that an image
    has exactly one. `groups` are the exclusive classes that are usually made of them, None where labels are classes.
    `missing` names listed images that are not on disk, `notes` the set's caveats. `listed_in` is the file or folder
    that messages blame. `named_by_place` says that the set does not name its labels, or otherwise than the classes
    asked for, so that they were matched by their order alone.
    """

    name: str
    root: Path
    cases: tuple[Case, ...]
    images: ImageSource = field(repr=False)
    labels: tuple[str, ...]
    exclusive: bool
    listed_in: Path
    groups: Groups | None = None
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    named_by_place: bool = False


def occurring(cases: Iterable[Case], order: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels that some case has, without `No Finding`: those of `order` first, then the others by name."""
    present = set(count_labels(cases)) - {NO_FINDING}
    return (*(label for label in order if label in present), *sorted(present - set(order)))


def negative_first(labels: Iterable[str]) -> tuple[str, ...]:
    """Exclusive labels by name, but names of health first: of two classes, the first is the negative one."""
    return tuple(sorted(labels, key=lambda label: (label.lower() not in _NEGATIVE, label)))
