"""Classes made of labels: which class claims an image that has certain labels.

A group is a class's name and the labels that count as it. `*` stands for every label, and for images without any, that
no other group claims. An ordinary class is the group of its own name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from xrt.runtime.cases.case import Box, Case
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
                    f"label {label!r} stands in the groups {owner[label]!r} and {name!r}; remove it from one"
                    " (data.groups)"
                )


class Claims:
    """Which of the `groups` claim a label or an image."""

    def __init__(self, groups: Groups) -> None:
        self.names = tuple(groups)
        self._owner = {label: name for name, labels in groups.items() for label in labels}
        self._rest = self._owner.pop(REST, None)
        self.labels = frozenset(self._owner)

    def of_label(self, label: str) -> str | None:
        """The group that a label, of an image or of a box, counts as."""
        return self._owner.get(label, self._rest)

    def of_image(self, labels: Iterable[str]) -> tuple[str, ...]:
        """The groups that claim an image with these labels, in the order of the groups."""
        named = {self._owner[label] for label in labels if label in self._owner}
        return tuple(name for name in self.names if name in (named or {self._rest}))


def claimed(cases: Sequence[Case], claims: Claims, *, exclusive: bool) -> list[Case]:
    """The cases with their groups as labels, boxes too; boxes that no group claims are left out.

    Where groups are `exclusive`, images that none claims are left out, and one that two claim raises DataError.
    """
    made, torn = [], []
    for case in cases:
        names = claims.of_image(case.labels)
        if exclusive and len(names) > 1:
            torn.append((case, names))
        if names or not exclusive:
            made.append(replace(case, labels=names, boxes=tuple(_boxes(case, claims))))
    if torn:
        case, names = torn[0]
        more = f" ({len(torn)} images are like it)" if len(torn) > 1 else ""
        raise DataError(
            f"{case.key} has the labels {', '.join(case.labels)} and so belongs to {' and to '.join(map(repr, names))}"
            f"{more}. Exclusive classes must not overlap: put the labels into one group (data.groups), or name those"
            " that shall not count as ignored (data.ignore_labels)."
        )
    return made


def count_labels(cases: Iterable[Case]) -> Counter[str]:
    """How many images have each label."""
    return Counter(label for case in cases for label in set(case.labels))


def _boxes(case: Case, claims: Claims) -> Iterable[Box]:
    for box in case.boxes:
        if (name := claims.of_label(box.label)) is not None:
            yield box._replace(label=name)
