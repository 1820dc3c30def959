"""Equally many images of every class, drawn the same way on every machine."""

from __future__ import annotations

from collections.abc import Sequence

from xrt.runtime._io import sha256_of
from xrt.runtime.datasets.case import Case
from xrt.runtime.errors import DataError, UsageError


def draw_evenly(cases: Sequence[Case], classes: Sequence[str], per_class: int | None, seed: int) -> list[int]:
    """Indices of `per_class` cases of each of the exclusive `classes`, in the order of the cases.

    None takes as many as the rarest class has. Those first by a hash of seed and key are drawn. Raises UsageError for
    less than one, DataError if a class has too few or none.
    """
    if per_class is not None and per_class < 1:
        raise UsageError(f"{per_class} images per class are asked for; give 1 or more (data.per_class)")
    members: dict[str, list[int]] = {name: [] for name in classes}
    for index, case in enumerate(cases):
        members[case.labels[0]].append(index)
    rarest = min(members, key=lambda name: len(members[name]))
    count = max(1, len(members[rarest])) if per_class is None else per_class
    if len(members[rarest]) < count:
        raise DataError(
            f"class {rarest!r} has {len(members[rarest])} images and {count} of each class are asked for; ask for"
            " fewer (data.per_class), or leave the class out (data.classes)"
        )

    def rank(index: int) -> str:
        # Not the hash that deals out splits, so that being drawn says nothing about the part.
        return sha256_of(f"balanced/{seed}/{cases[index].key}")

    return sorted(index for indices in members.values() for index in sorted(indices, key=rank)[:count])
