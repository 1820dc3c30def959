"""`CaseTable`: labelled images in a fixed order, with what is known of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.bundle.manifest import Preprocessing, Task
from xrt.runtime.cases.case import Case
from xrt.runtime.cases.images import ImageSource
from xrt.runtime.cases.splits import PARTS, official_split, require_disjoint, split_by_patient
from xrt.runtime.preprocessing import preprocess


@dataclass(frozen=True)
class CaseTable:
    """Labelled images of one data set.

    `classes` gives the order. A `binary` table has two, negative first. `missing` counts rows that were left
    out because their image file is not there.
    """

    name: str
    root: Path
    task: Task
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    images: ImageSource = field(repr=False)
    missing: int = 0

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.cases)

    @property
    def logit_classes(self) -> tuple[str, ...]:
        """The classes that the columns of `labels`, and a model's logits, speak for."""
        return self.classes[1:] if self.task == "binary" else self.classes

    @property
    def labels(self) -> Float32[np.ndarray, "n logits"]:
        """Targets 0 or 1, float32 [n, logits]: column j is what logit j of a model should say.

        Multilabel: one column a class. Multiclass: one-hot. Binary: one column, 1 for the second class.
        """
        rows = [[name in case.labels for name in self.logit_classes] for case in self.cases]
        return np.array(rows, dtype=np.float32).reshape(len(self.cases), len(self.logit_classes))

    def pixels(self, index: int) -> UInt8[np.ndarray, "stored_height stored_width"]:
        """The stored image of case `index`, grey uint8 [H, W]. Raises ImageError if it cannot be read."""
        return self.images.read(self.cases[index].key)

    def load(self, index: int, spec: Preprocessing) -> UInt8[np.ndarray, "height width"]:
        """The model's input for case `index`, uint8 [spec.height, spec.width], made as screening makes it."""
        image = self.images.read(self.cases[index].key, spec.unwindowed)
        return preprocess(image, spec)[0]

    def subset(self, indices: Iterable[int]) -> CaseTable:
        """The cases at `indices`, in that order."""
        return replace(self, cases=tuple(self.cases[i] for i in indices))

    def split(
        self,
        proportions: Sequence[float] = (0.7, 0.15, 0.15),
        *,
        seed: int = 0,
        official: bool = False,
    ) -> Splits:
        """Train, validation and test tables that share no patient.

        Without `official`, whole patients are dealt out so that the shares of images come as close to
        `proportions` as patients allow; the same seed gives the same split on any machine. With it, the
        publishers' lists are followed, and where these give no validation part it is split off `train_val`,
        by patient, in the ratio of the first two proportions. Raises DataError if there are no such lists, if
        they share a patient, or if a part would be empty.
        """
        deal = official_split if official else split_by_patient
        parts = deal(self.cases, tuple(proportions), seed)
        return Splits(**{name: self.subset(indices) for name, indices in parts.items()})

    def summary(self) -> dict[str, object]:
        """Counts for a report: images, patients, missing files, boxes, and images and prevalence of every class."""
        counts = {name: sum(name in case.labels for case in self.cases) for name in self.classes}
        return {
            "name": self.name,
            "task": self.task,
            "images": len(self.cases),
            "patients": len({case.patient for case in self.cases}),
            "missing": self.missing,
            "boxes": sum(len(case.boxes) for case in self.cases),
            "classes": {name: {"images": n, "prevalence": n / max(1, len(self.cases))} for name, n in counts.items()},
        }


@dataclass(frozen=True)
class Splits:
    """Three tables that share no patient; making one that does raises DataError."""

    train: CaseTable
    val: CaseTable
    test: CaseTable

    def __post_init__(self) -> None:
        """Refuse a leak."""
        require_disjoint({name: {case.patient for case in getattr(self, name).cases} for name in PARTS})

    def __iter__(self) -> Iterator[CaseTable]:
        """Train, val, test."""
        return iter((self.train, self.val, self.test))
