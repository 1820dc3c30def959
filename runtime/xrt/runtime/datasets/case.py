"""One labelled image, and the boxes drawn on it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from xrt.runtime.geometry import Box

NO_FINDING = "No Finding"
"""The label that there is none of the others; among independent labels it is a class only where it is asked for."""

_UNITS = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}  # how many make a year
OLDEST = 120  # years; public sets contain ages such as 414


class LabelledBox(NamedTuple):
    """Where a finding lies: its label, and a box in pixels of the stored image."""

    label: str
    box: Box


@dataclass(frozen=True)
class Case:
    """One labelled image.

    `key` names it: the path relative to the table's root, or `split/row` inside an array file. `labels` are those of
    the table's classes that it has. `patient` groups the images that must stay on one side of a split; a set that
    gives none makes every image its own patient. `age` is in whole years. `split` is the part that the set's
    publishers put it in: `train`, `val`, `train_val`, `test`, or None.
    """

    key: str
    labels: tuple[str, ...]
    patient: str
    view: str | None = None
    sex: str | None = None
    age: int | None = None
    boxes: tuple[LabelledBox, ...] = ()
    split: str | None = None


def box_of(label: str, sides: Iterable[str]) -> LabelledBox:
    """A box from x, y, width and height as text. Raises ValueError if they are no place in an image."""
    x, y, width, height = map(float, sides)
    if not (x >= 0 and y >= 0 and width > 0 and height > 0 and math.isfinite(x + y + width + height)):
        raise ValueError(f"no place in an image: {x}, {y}, {width}, {height}")
    return LabelledBox(label, Box(x, y, width, height))


def whole_years(text: str) -> int | None:
    """Whole years from `60`, `60.0` as spreadsheets write it, or a DICOM age: `060Y`, `018M`, `003W` (PS3.5, AS).

    None for anything else, and for ages over 120, which public sets contain.
    """
    match = re.fullmatch(r"0*(\d+)(?:\.\d+)?([YMWD]?)", text.strip().upper())
    if not match:
        return None
    years = int(int(match[1]) / _UNITS[match[2]])
    return years if years <= OLDEST else None
