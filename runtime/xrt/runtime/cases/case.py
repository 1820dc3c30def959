"""One labelled image, and the boxes drawn on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """Where a finding lies: top left corner and size in pixels of the stored image, x before y."""

    label: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Case:
    """One labelled image.

    `key` names it: the path relative to the table's root, or `split/row` inside an array file. `patient`
    groups the images that must stay on one side of a split; a set that gives none makes every image its own
    patient. `age` is in whole years. `split` is the part that the set's publishers put it in: `train`, `val`,
    `train_val`, `test`, or None.
    """

    key: str
    labels: tuple[str, ...]
    patient: str
    view: str | None = None
    sex: str | None = None
    age: int | None = None
    boxes: tuple[Box, ...] = ()
    split: str | None = None
