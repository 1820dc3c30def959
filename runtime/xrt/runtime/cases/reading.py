"""What a reader hands over: a data set's images and its own labels, before classes are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xrt.runtime.cases.case import NO_FINDING, Case
from xrt.runtime.cases.grouping import Groups, count_labels
from xrt.runtime.cases.images import ImageSource

_NEGATIVE = {"normal", "no finding", "no_finding", "nofinding", "negative", "healthy", "control", "0"}
_SHOWN = 20  # labels that a message names: a folder of studies has thousands


@dataclass(frozen=True)
class Reading:
    """One data set as its publishers labelled it.

    `labels` are those that become classes unless the caller names others, in order; `exclusive` says that an image
    has exactly one. `groups` are the exclusive classes that are usually made of them, None where labels are classes.
    `missing` names listed images that are not on disk, `notes` the set's caveats. `listed_in` is the file or folder
    that messages blame.
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


def occurring(cases: Iterable[Case], order: Sequence[str] = ()) -> tuple[str, ...]:
    """The labels that some case has, without `No Finding`: those of `order` first, then the others by name."""
    present = set(count_labels(cases)) - {NO_FINDING}
    return (*(label for label in order if label in present), *sorted(present - set(order)))


def some_of(names: Sequence[str]) -> str:
    """The names for a message; of very many, the first."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown or "none"


def negative_first(labels: Iterable[str]) -> tuple[str, ...]:
    """Exclusive labels by name, but names of health first: of two classes, the first is the negative one."""
    return tuple(sorted(labels, key=lambda label: (label.lower() not in _NEGATIVE, label)))
