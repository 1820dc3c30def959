"""Tables of predictions: a CSV that any software can write, and that an evaluation writes too.

    image,label:Mass,label:Nodule,probability:Mass,probability:Nodule
    images/00000001_000.png,1,0,0.84,0.07

Labels are 0 or 1 and may be absent when a data set gives them. Further columns `patient`, `view`, `sex` and `age` are
read where they are present; without `patient` every image is its own patient. Columns of one image that sum to 1 in
every row, with one label each, make the table multiclass.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from xrt.benchmarks.evaluation.measure.predictions import ModelInfo, Predictions
from xrt.runtime.bundle.manifest import ClassSpec, Task
from xrt.runtime.datasets import Case, CaseTable, open_dataset_for
from xrt.runtime.datasets.case import OLDEST, whole_years
from xrt.runtime.datasets.csv_reader import Row, name_columns, read_rows
from xrt.runtime.datasets.images import FolderImages
from xrt.runtime.errors import DataError

_SUM = 1e-4
"""Probabilities are written with at most 9 digits, some software writes 5: their sum is 1 within this."""
_CERTAIN = 1e-12
"""Logits of 0 and 1 are infinite; those of numbers so close to them are not, and calibration needs numbers."""


@dataclass(frozen=True)
class PredictionTable:
    """A table as it was read: probabilities float64 [n, classes], labels where the table has its own."""

    path: Path
    names: tuple[str, ...]
    keys: tuple[str, ...]
    probability: Float[np.ndarray, "n k"] = field(repr=False)
    labels: Bool[np.ndarray, "n k"] | None = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> PredictionTable:
        """Read and check a table. Raises DataError, naming the line and the remedy."""
        columns, rows = read_rows(path, filled=("image",))
        names, label_names = _suffixes(columns, "probability:"), _suffixes(columns, "label:")
        if not names or "" in names:
            raise DataError(
                f"{path} is no table of predictions: it needs the columns image and probability:NAME for every class; "
                f"{name_columns(columns)}"
            )
        if label_names and set(label_names) != set(names):
            raise DataError(f"{path}: {_difference('label', label_names, 'probability', names)}; both need every class")
        keys: dict[str, None] = {}
        for line, row in rows:
            if row["image"] in keys:
                raise DataError(f"{path}, line {line}: {row['image']} is listed twice; remove one row")
            keys[row["image"]] = None
        probability = np.array([[_probability(path, i, row, f"probability:{n}") for n in names] for i, row in rows])
        labels = None
        if label_names:
            labels = np.array([[_label(path, i, row, f"label:{n}") for n in names] for i, row in rows])
        return cls(path, names, tuple(keys), probability, labels, tuple(rows))

    @property
    def task(self) -> Task:
        """Multiclass where every row's probabilities sum to 1 and it has one label; else multilabel."""
        single = self.labels is None or (self.labels.sum(axis=1) == 1).all()
        return "multiclass" if len(self.names) > 1 and self._of_one_softmax.all() and single else "multilabel"

    @property
    def _of_one_softmax(self) -> Bool[np.ndarray, " n"]:
        return np.abs(self.probability.sum(axis=1) - 1) <= _SUM

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """The classes of the model that made the table."""
        return tuple(ClassSpec(name=name) for name in self.names)

    def cases(self) -> CaseTable:
        """The rows as labelled cases. Raises DataError when the table has no labels."""
        if self.labels is None:
            raise DataError(
                f"{self.path} has no label:NAME columns: give the data set that has the labels, or add them"
            )
        cases = tuple(
            Case(
                key=key,
                labels=tuple(n for n, yes in zip(self.names, labels, strict=True) if yes),
                patient=row.get("patient") or f"image {key}",
                view=row.get("view") or None,
                sex=row.get("sex") or None,
                age=_years(self.path, i, row.get("age")),
            )
            for (i, row), key, labels in zip(self.rows, self.keys, self.labels, strict=True)
        )
        return CaseTable(self.path.name, self.path.parent, self.task, self.names, cases, FolderImages(self.path.parent))

    def data_set(self, path: Path) -> CaseTable:
        """The data set at `path` with the classes and the task of this table. Raises DataError when it has others."""
        return open_dataset_for(self, path)

    def require_classes(self, table: CaseTable) -> None:
        """Raise DataError unless the table has the classes of `table`, in any order."""
        if set(table.logit_classes) != set(self.names):
            difference = _difference(table.name, table.logit_classes, self.path.name, self.names)
            raise DataError(f"the classes differ: {difference}")

    def predictions(self, table: CaseTable) -> Predictions:
        """The table's predictions for the cases of `table`, in their order.

        Raises DataError when it leaves some out, when labels of its own contradict theirs, and where classes exclude
        each other but a row's labels or probabilities do not.
        """
        self.require_classes(table)
        row_of = {key: i for i, key in enumerate(self.keys)}
        if absent := [case.key for case in table.cases if case.key not in row_of]:
            raise DataError(
                f"{self.path.name} has no row for {len(absent)} of {len(table)} images of {table.name} (for example "
                f"{absent[0]}): images are matched by name; complete the table, or choose the part it is of (--split)"
            )
        rows = [row_of[case.key] for case in table.cases]
        columns = [self.names.index(name) for name in table.logit_classes]
        multiclass = table.task == "multiclass"
        if multiclass:
            self._require_exclusive(rows)
        if self.labels is not None:
            differ = (self.labels[np.ix_(rows, columns)] != table.labels.astype(bool)).any(axis=1)
            if differ.any():
                raise DataError(
                    f"{self.path.name} and {table.name} label {differ.sum()} of {len(table)} images differently (for "
                    f"example {table.cases[int(differ.argmax())].key}): see whether the rows are of these images, or "
                    f"remove the label: columns of {self.path.name}"
                )
        probability = self.probability[np.ix_(rows, columns)]
        certain = np.clip(probability, _CERTAIN, 1 - _CERTAIN)
        return Predictions(
            model=ModelInfo(self.path.stem, f"read from {self.path.name}"),
            table=table,
            task=table.task,
            logits=np.log(certain) if multiclass else np.log(certain / (1 - certain)),
            probability=probability,
            thresholds=(None if multiclass else 0.5,) * len(columns),
            temperatures=(1.0,) * len(columns),
        )

    def _require_exclusive(self, rows: list[int]) -> None:
        """Raise DataError unless the rows sum to 1 and have one label each, where they have labels."""
        sums, labels = self._of_one_softmax, self.labels
        for i in rows:
            line = f"{self.path}, line {self.rows[i][0]}"
            if not sums[i]:
                raise DataError(
                    f"{line}: the classes exclude each other, but their probabilities sum to "
                    f"{self.probability[i].sum():.4g}; divide every row by its sum"
                )
            if labels is not None and labels[i].sum() != 1:
                raise DataError(
                    f"{line}: the classes exclude each other, but the image has {labels[i].sum()} labels; give it one"
                )


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a table that `PredictionTable.read` reads. Patients' identifiers stay out of it."""
    names = predictions.names
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *(f"label:{n}" for n in names), *(f"probability:{n}" for n in names)])
        for case, label, row in zip(predictions.table.cases, predictions.truth, predictions.probability, strict=True):
            writer.writerow([case.key, *(int(v) for v in label), *(f"{p:.9g}" for p in row)])


def _suffixes(columns: list[str], prefix: str) -> tuple[str, ...]:
    return tuple(column.removeprefix(prefix) for column in columns if column.startswith(prefix))


def _difference(one: str, these: tuple[str, ...], other: str, those: tuple[str, ...]) -> str:
    parts = []
    for name, more in ((one, [n for n in these if n not in those]), (other, [n for n in those if n not in these])):
        if more:
            parts.append(f"only {name} has {', '.join(more)}")
    return "; ".join(parts)


def _probability(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise DataError(f"{path}, line {line}: {column} is {row[column]!r}; a probability is a number from 0 to 1")
    return value


def _label(path: Path, line: int, row: dict[str, str], column: str) -> bool:
    try:
        value = float(row[column])
    except ValueError:
        value = np.nan
    if value not in (0, 1):
        raise DataError(f"{path}, line {line}: {column} is {row[column]!r}; a label is 0 or 1")
    return bool(value)


def _years(path: Path, line: int, text: str | None) -> int | None:
    if not text:
        return None
    years = whole_years(text)
    if years is None:
        raise DataError(f"{path}, line {line}: age is {text!r}; give years from 0 to {OLDEST}, or leave it empty")
    return years
