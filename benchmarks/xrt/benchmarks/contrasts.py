"""The visibility of phantoms' lesions: their contrast-to-noise ratio, from `phantoms.csv` beside the images."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from xrt.runtime.errors import DataError
from xrt.runtime.phantoms.files import LESION_TABLE

_BANDS = ((0.0, 40.0, "under 40"), (40.0, 70.0, "40 to 70"), (70.0, np.inf, "70 and over"))
"""Contrast-to-noise ratios: phantoms are drawn with 18 (hardly visible) to 110 (obvious)."""
BANDS = tuple(name for _, _, name in _BANDS)


def read_contrasts(root: Path) -> dict[tuple[str, str], float]:
    """Contrast of the most visible lesion by (stem of the image's file, label); empty where there are no phantoms.

    Raises DataError for a `phantoms.csv` that is no table of lesions.
    """
    file = root / LESION_TABLE
    if not file.is_file():
        return {}
    contrasts: dict[tuple[str, str], float] = {}
    with file.open(newline="", encoding="utf-8") as stream:
        for number, row in enumerate(csv.DictReader(stream), 2):
            try:
                key, contrast = (PurePosixPath(row["image"]).stem, row["label"]), float(row["contrast"])
                if not 0 <= contrast < np.inf:
                    raise ValueError(contrast)
            except (KeyError, TypeError, ValueError):
                raise DataError(
                    f"{file}, line {number}: expected columns image, label and contrast, a number of 0 or more; write"
                    " the phantoms again, or remove the file"
                ) from None
            contrasts[key] = max(contrast, contrasts.get(key, contrast))
    return contrasts


def contrast_of(contrasts: Mapping[tuple[str, str], float], key: str, label: str) -> float | None:
    """The contrast of the lesion of this label in the case `key`; None where there is none."""
    return contrasts.get((PurePosixPath(key).stem, label))


def band_of(contrast: float | None) -> str | None:
    """The band that a contrast lies in."""
    return None if contrast is None else next(name for low, high, name in _BANDS if low <= contrast < high)
