"""Findings by class, and on phantoms by the contrast of their lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from xrt.benchmarks.contrasts import BANDS, band_of


@dataclass(frozen=True)
class Group:
    """Findings that are summarised together: `kind` is all, class, contrast, area, or class and contrast."""

    kind: str
    name: str
    rows: Int[np.ndarray, " n"]


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
    bands = np.array([band_of(contrast) for contrast in contrasts], dtype=object)
    found = [Group("all", "all", np.arange(len(of_class)))]
    found += [Group("class", name, np.flatnonzero(of_class == name)) for name in names]
    for kind, labels in further.items():
        column = np.array(labels, dtype=object)
        found += [Group(kind, label, np.flatnonzero(column == label)) for label in sorted(set(labels))]
    present = [band for band in BANDS if (bands == band).any()]
    found += [Group("contrast", f"contrast {band}", np.flatnonzero(bands == band)) for band in present]
    for name in names:
        for band in present:
            rows = np.flatnonzero((of_class == name) & (bands == band))
            if len(rows):
                found.append(Group("class and contrast", f"{name}, contrast {band}", rows))
    return found
