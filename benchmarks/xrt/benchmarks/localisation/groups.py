"""Findings by class, and on phantoms by the contrast of their lesions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from xrt.benchmarks.contrasts import BANDS, band_of


@runtime_checkable
class Finding(Protocol):
    """A finding's class, and the contrast of its lesion where that is known."""

    @property
    def name(self) -> str:
        """The class."""
        ...

    @property
    def contrast(self) -> float | None:
        """The contrast-to-noise ratio of a phantom's lesion."""
        ...


@dataclass(frozen=True)
class Group:
    """Findings that are summarised together: `kind` is all, class, contrast, area, or class and contrast."""

    kind: str
    name: str
    rows: Int[np.ndarray, " n"]


def group_findings(
    names: Sequence[str], findings: Sequence[Finding], further: Mapping[str, Sequence[str]]
) -> list[Group]:
    """All findings, those of every class of `names`, by contrast where it is known, and by the columns of `further`.

    `further` holds a label for every finding, by kind. Classes without findings have a group too.
    """
    of_class = np.array([finding.name for finding in findings], dtype=object)
    bands = np.array([band_of(finding.contrast) for finding in findings], dtype=object)
    result = [Group("all", "all", np.arange(len(of_class)))]
    result += [Group("class", name, np.flatnonzero(of_class == name)) for name in names]
    for kind, labels in further.items():
        column = np.array(labels, dtype=object)
        result += [Group(kind, label, np.flatnonzero(column == label)) for label in sorted(set(labels))]
    present = [band for band in BANDS if (bands == band).any()]
    result += [Group("contrast", f"contrast {band}", np.flatnonzero(bands == band)) for band in present]
    for name in names:
        for band in present:
            rows = np.flatnonzero((of_class == name) & (bands == band))
            if len(rows):
                result.append(Group("class and contrast", f"{name}, contrast {band}", rows))
    return result
