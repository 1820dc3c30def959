"""Findings by class, and on phantoms by the contrast of their lesions."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int

from xrt.runtime.errors import DataError

CONTRASTS = "phantoms.csv"
_BANDS = ((0.0, 40.0, "contrast under 40"), (40.0, 70.0, "contrast 40 to 70"), (70.0, np.inf, "contrast 70 and over"))
"""Contrast-to-noise ratios: phantoms are drawn with 18 (hardly visible) to 110 (obvious)."""


@dataclass(frozen=True)
class Group:
    """Findings that are summarised together: `kind` is all, class, contrast, area, or class and contrast."""

    kind: str
    name: str
    rows: Int[np.ndarray, " n"]


def read_contrasts(root: Path) -> dict[tuple[str, str], float]:
    """Contrast of the most visible lesion by (stem of the image's file, label); empty where there are no phantoms.

    Raises DataError for a `phantoms.csv` that is no table of lesions.
    """
    file = root / CONTRASTS
    if not file.is_file():
        return {}
    contrasts: dict[tuple[str, str], float] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            try:
                key, contrast = (PurePosixPath(row["image"]).stem, row["label"]), float(row["contrast"])
            except (KeyError, TypeError, ValueError):
                raise DataError(
                    f"{file}, line {number}: expected columns image, label and contrast; write the phantoms anew, or"
                    " remove the file"
                ) from None
            contrasts[key] = max(contrast, contrasts.get(key, contrast))
    return contrasts


def groups(
    names: Sequence[str],
    classes: Sequence[str],
    contrasts: Sequence[float | None],
    further: Mapping[str, Sequence[str]],
) -> list[Group]:
    """All findings, those of every class of `names`, by contrast where it is known, and by the columns of `further`.

    `classes` and `contrasts` are those of the findings, as are the labels in each column of `further`, by kind. Classes
    without findings have a group too.
    """
    of_class = np.array(classes, dtype=object)
    bands = np.array([_band(contrast) for contrast in contrasts], dtype=object)
    found = [Group("all", "all", np.arange(len(of_class)))]
    found += [Group("class", name, np.flatnonzero(of_class == name)) for name in names]
    for kind, labels in further.items():
        column = np.array(labels, dtype=object)
        found += [Group(kind, label, np.flatnonzero(column == label)) for label in sorted(set(labels))]
    present = [band for _, _, band in _BANDS if (bands == band).any()]
    found += [Group("contrast", band, np.flatnonzero(bands == band)) for band in present]
    for name in names:
        for band in present:
            rows = np.flatnonzero((of_class == name) & (bands == band))
            if len(rows):
                found.append(Group("class and contrast", f"{name}, {band}", rows))
    return found


def _band(contrast: float | None) -> str | None:
    return None if contrast is None else next(name for low, high, name in _BANDS if low <= contrast < high)
