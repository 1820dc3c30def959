"""Classes made of labels: which class an image with certain labels belongs to.

A group is a class's name and the labels that count as it. `*` means every label that
no other group has, and images without any label. An ordinary class is the group of its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from xrt.runtime.datasets.case import Case, LabelledBox
from xrt.runtime.errors import DataError, UsageError

REST = "*"
Groups = Mapping[str, Sequence[str]]


def require_groups(groups: Groups) -> None:
    """Raise UsageError if a group names no label, or two groups name the same one."""
    owner: dict[str, str] = {}
    for name, labels in groups.items():
        if isinstance(labels, str) or not labels:
            raise UsageError(
                f"group {name!r} has the labels {labels!r}; give a list of labels, or ['{REST}'] for all that no other"
                " group names (data.groups)"
            )
        for label in labels:
            if owner.setdefault(label, name) != name:
                raise UsageError(
                    f"label {label!r} is in the groups {owner[label]!r} and {name!r}; remove it from one (data.groups)"
                )


class LabelGroups:
    """Which of the `groups` a label or an image belongs to."""

    def __init__(self, groups: Groups) -> None:
        self.names = tuple(groups)
        self._owner = {label: name for name, labels in groups.items() for label in labels}
        self._rest = self._owner.pop(REST, None)
        self.labels = frozenset(self._owner)

    def of_label(self, label: str) -> str | None:
        """The group that a label, of an image or of a box, counts as."""
        return self._owner.get(label, self._rest)

    def of_image(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The groups that an image with these labels belongs to, in the order of the groups."""
        owners = {self._owner[label] for label in labels if label in self._owner}
        return tuple(name for name in self.names if name in (owners or {self._rest}))


def assign_groups(cases: Sequence[Case], label_groups: LabelGroups, *, exclusive: bool) -> list[Case]:
    """The cases with their groups as labels, boxes too; boxes of no group are left out.

    Where groups are `exclusive`, images of no group are left out, and one of two groups raises DataError.
    """
    grouped, ambiguous = [], []
    for case in cases:
        names = label_groups.of_image(case.labels)
        if exclusive and len(names) > 1:
            ambiguous.append((case, names))
        if names or not exclusive:
            grouped.append(replace(case, labels=names, boxes=tuple(_boxes(case, label_groups))))
    if ambiguous:
        case, names = ambiguous[0]
        more = f" ({len(ambiguous)} images are like it)" if len(ambiguous) > 1 else ""
        raise DataError(
            f"{case.key} has the labels {', '.join(case.labels)} and so belongs to {' and to '.join(map(repr, names))}"
            f"{more}. Exclusive classes must not overlap: put the labels into one group (data.groups), or name those"
            " that shall not count as ignored (data.ignore_labels)."
        )
    return grouped


def count_labels(cases: Iterable[Case]) -> Counter[str]:
    """How many images have each label."""
    return Counter(label for case in cases for label in set(case.labels))


def _boxes(case: Case, label_groups: LabelGroups) -> Iterable[LabelledBox]:
    for box in case.boxes:
        if (name := label_groups.of_label(box.label)) is not None:
            yield box._replace(label=name)
