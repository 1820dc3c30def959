"""What the caller of `open_cases` fixes, and the check that no label is lost silently."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from xrt.runtime.cases.case import Case
from xrt.runtime.errors import DataError


@dataclass(frozen=True)
class ReadOptions:
    """How a data set is to be read.

    `classes` gives their order, or None to take them from the data; `ignore` names labels that may occur and
    count as absent, or is None for all others; `allow_missing` is the share of rows, 0..1, whose image file
    may be absent.
    """

    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = ()
    allow_missing: float = 0.05

    def require_known_labels(self, cases: Iterable[Case], classes: Iterable[str], where: str) -> None:
        """Raise DataError, naming labels and counts, if any label is neither a class nor ignored on purpose."""
        if self.ignore is None:
            return
        accepted = {*classes, *self.ignore}
        strangers: dict[str, int] = {}
        for case in cases:
            for label in set(case.labels) - accepted:
                strangers[label] = strangers.get(label, 0) + 1
        if strangers:
            listed = ", ".join(f"{label} ({count} images)" for label, count in sorted(strangers.items()))
            raise DataError(
                f"{where} has labels outside the classes asked for: {listed}. Add them to the classes"
                " (data.classes), or to the ignored labels (data.ignore_labels) to count them as absent."
            )

    def require_images(self, missing: list[str], rows: int, where: str) -> None:
        """Raise DataError if more than `allow_missing` of the rows have no image file."""
        if rows == len(missing) or len(missing) > self.allow_missing * rows:
            raise DataError(
                f"{where}: {len(missing)} of {rows} images are not on disk (for example {missing[0]}), and"
                f" {self.allow_missing:.0%} may be missing. Unpack the rest of the images, or allow a larger share"
                " (data.allow_missing)."
            )
