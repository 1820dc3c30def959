"""`CaseTable`: labelled images in a fixed order, with what is known of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from xrt.runtime.bundle.manifest import Preprocessing, Task
from xrt.runtime.datasets.balance import draw_evenly
from xrt.runtime.datasets.case import Case
from xrt.runtime.datasets.images import ImageSource
from xrt.runtime.datasets.splits import PARTS, official_split, require_disjoint, split_by_patient
from xrt.runtime.errors import UsageError
from xrt.runtime.phantoms.files import are_phantoms
from xrt.runtime.preprocessing import preprocess

_SHOWN = 5  # missing images that a summary names


@dataclass(frozen=True)
class CaseTable:
    """Labelled images of one data set.

    `classes` gives the order; an image may have several in a `multilabel` table and has exactly one in the others. A
    `binary` table has two, negative first. `missing` names the listed images that are not on disk, `left_out` counts
    those that belong to no class. `notes` are caveats of the data set that every report repeats. `named_by_place` says
    that labels were matched to classes by their order alone.
    """

    name: str
    root: Path
    task: Task
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    images: ImageSource = field(repr=False)
    missing: tuple[str, ...] = ()
    left_out: int = 0
    notes: tuple[str, ...] = ()
    named_by_place: bool = False

    def __len__(self) -> int:
        """The number of cases."""
        return len(self.cases)

    @property
    def logit_classes(self) -> tuple[str, ...]:
        """The classes of the columns of `labels`, and of a model's logits."""
        return self.classes[1:] if self.task == "binary" else self.classes

    @property
    def labels(self) -> Float32[np.ndarray, "n logits"]:
        """Targets 0 or 1, float32 [n, logits]: column j is what logit j of a model should say.

        Multilabel: one column per class. Multiclass: one-hot. Binary: one column, 1 for the second class.
        """
        rows = [[name in case.labels for name in self.logit_classes] for case in self.cases]
        return np.array(rows, dtype=np.float32).reshape(len(self.cases), len(self.logit_classes))

    def pixels(self, index: int) -> UInt8[np.ndarray, "stored_height stored_width"]:
        """The stored image of case `index`, grey uint8 [H, W]. Raises ImageError if it cannot be read."""
        return self.images.read(self.cases[index].key)

    def load(self, index: int, spec: Preprocessing) -> UInt8[np.ndarray, "height width"]:
        """The model's input for case `index`, uint8 [spec.height, spec.width], made as screening makes it."""
        image = self.images.read(self.cases[index].key, spec.without_window)
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
        publishers' lists are followed, and where these give no validation part it is split off `train_val` or
        `train`, by patient, in the ratio of the first two proportions. Raises DataError if there are no such lists, if
        they share a patient, or if a part would be empty.
        """
        deal = official_split if official else split_by_patient
        parts = deal(self.cases, tuple(proportions), seed)
        return Splits(**{name: self.subset(indices) for name, indices in parts.items()})

    def balanced(self, per_class: int | None = None, *, seed: int = 0) -> CaseTable:
        """A subset with equally many images of every class; None takes as many as the rarest class has.

        The same seed draws the same images on any machine. Raises UsageError for a multilabel table, in which an
        image counts for several classes, and for less than one image per class; DataError if a class has too few.
        """
        if self.task == "multilabel":
            raise UsageError(
                f"{self.name} is multilabel, so its classes cannot be balanced by choosing images; make exclusive"
                " classes of its labels (data.groups)"
            )
        return self.subset(draw_evenly(self.cases, self.classes, per_class, seed))

    def co_occurrence(self) -> Int64[np.ndarray, "classes classes"]:
        """How many images have both class i and class j, [k, k]; on the diagonal, how many have class i."""
        rows = [[name in case.labels for name in self.classes] for case in self.cases]
        members = np.array(rows, dtype=np.int64).reshape(len(self.cases), len(self.classes))
        return members.T @ members

    def summary(self) -> dict[str, Any]:
        """Counts for a report.

        Images, patients, missing and left-out images, boxes; images and prevalence of every class (None without
        images) and how often two occur together; official parts, views, sexes and ages where they are known.
        """
        together = self.co_occurrence()
        n = len(self.cases)
        ages = sorted(case.age for case in self.cases if case.age is not None)
        return {
            "name": self.name,
            "task": self.task,
            "images": n,
            "patients": len({case.patient for case in self.cases}),
            "missing": len(self.missing),
            "missing_images": list(self.missing[:_SHOWN]),
            "left_out": self.left_out,
            "boxes": sum(len(case.boxes) for case in self.cases),
            "classes": {
                name: {"images": int(count), "prevalence": int(count) / n if n else None}
                for name, count in zip(self.classes, together.diagonal(), strict=True)
            },
            "co_occurrence": together.tolist(),
            "parts": _counted(case.split for case in self.cases),
            "views": _counted(case.view for case in self.cases),
            "sexes": _counted(case.sex for case in self.cases),
            "ages": {"known": len(ages), "lowest": ages[0], "median": median(ages), "highest": ages[-1]}
            if ages
            else None,
            "notes": list(self.notes),
        }

    @property
    def population(self) -> str | None:
        """Whose radiographs these are, as far as the set records it: phantoms, or ages and views; None for neither."""
        if are_phantoms(self.root):
            return "synthetic phantoms"
        facts = self.summary()
        parts = []
        if ages := facts["ages"]:
            parts.append(f"patients of {ages['lowest']} to {ages['highest']} years (median {ages['median']:g})")
        if views := [name for name in facts["views"] if name != "unknown"]:
            parts.append(f"views {', '.join(views)}")
        return f"{'; '.join(parts)}; as recorded in {self.name}" if parts else None


def _counted(values: Iterable[str | None]) -> dict[str, int]:
    """How often each value occurs, by name; `unknown` counts those without one, if any value is known."""
    counts = Counter("unknown" if value is None else value for value in values)
    return dict(sorted(counts.items())) if set(counts) - {"unknown"} else {}


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

    def named(self) -> dict[str, CaseTable]:
        """The tables by the names of their parts."""
        return {name: getattr(self, name) for name in PARTS}
