"""Which cases are reported, and which give thresholds. Cases that a model was trained on must be neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.runtime.datasets import CaseTable
from xrt.runtime.datasets.csv_reader import read_rows
from xrt.runtime.datasets.splits import PARTS, require_disjoint
from xrt.runtime.errors import DataError

Part = Literal["auto", "train", "val", "test", "all"]


class CasePart(NamedTuple):
    """The cases of one part of a data set, and the name of the part."""

    table: CaseTable
    part: str


def select_part(table: CaseTable, part: Part) -> CasePart:
    """The cases of one part; `auto` is the test part where there is one, else all cases.

    Raises DataError when there is no such part, or when the table is empty.
    """
    if not len(table):
        raise DataError(f"{table.name} has no cases: there is nothing to evaluate")
    splits = {case.split for case in table.cases}
    if part == "auto":
        part = "test" if "test" in splits else "all"
    if part == "all":
        return CasePart(table, part)
    rows = [i for i, case in enumerate(table.cases) if case.split == part]
    if not rows:
        parts = ", ".join(sorted(s for s in splits if s)) or "none"
        raise DataError(
            f"{table.name} has no official part {part!r} (it has: {parts}): use --split all, or say how training split "
            "it (--split-file, or --proportions)"
        )
    return CasePart(table.subset(rows), part)


def split_by_proportions(table: CaseTable, proportions: Sequence[float], seed: int) -> CaseTable:
    """The table with every case in the part that training by these proportions and this seed put it in.

    Raises DataError for proportions that do not add up to 1, and where a part would be empty.
    """
    splits = table.split(tuple(proportions), seed=seed)
    part_of = {case.key: part for part in PARTS for case in getattr(splits, part).cases}
    return _relabelled(table, part_of)


def split_by_file(table: CaseTable, path: Path) -> CaseTable:
    """The table with every case in the part that a CSV with the columns `key` and `part` gives it.

    Training writes one into its run directory. Images that it does not name were not among training's cases and are
    left out. Raises DataError when it names images that are not in the table, for a part that is none, and when a
    patient is in two parts.
    """
    _, rows = read_rows(path, filled=("key", "part"))
    part_of: dict[str, str] = {}
    for number, row in rows:
        if row["part"] not in PARTS:
            raise DataError(f"{path}, line {number}: the part is {row['part']!r}; it is one of {', '.join(PARTS)}")
        if part_of.setdefault(row["key"], row["part"]) != row["part"]:
            raise DataError(f"{path}, line {number}: {row['key']} is in two parts; remove one row")
    if strangers := sorted(part_of.keys() - {case.key for case in table.cases}):
        raise DataError(
            f"{path} names {len(strangers)} images that are not in {table.name} (for example {strangers[0]}): it is"
            " not the split of this data set; give the one that training wrote for it"
        )
    return _relabelled(table.subset(i for i, case in enumerate(table.cases) if case.key in part_of), part_of)


def require_other_patients(one: CaseTable, other: CaseTable) -> None:
    """Raise DataError if a patient of one data set is on both sides, reported and validation."""
    if one.root == other.root and one.name == other.name:
        parts = {"the reported cases": one, "the validation cases": other}
        require_disjoint({name: {case.patient for case in table.cases} for name, table in parts.items()})


def require_apart(reported: Predictions, validation: Predictions) -> None:
    """Raise DataError if an image that gives thresholds is also one that is reported.

    Of one data set no patient may be on both sides. Images of two data sets may share names; the same name with
    the very same scores is the same image.
    """
    one, other = reported.table, validation.table
    require_other_patients(one, other)
    row_of = {case.key: i for i, case in enumerate(other.cases)}
    same = [
        case.key
        for i, case in enumerate(one.cases)
        if (j := row_of.get(case.key)) is not None and np.array_equal(reported.logits[i], validation.logits[j])
    ]
    if same:
        raise DataError(
            f"{len(same)} of {len(one)} reported images are also among the validation cases (for example {same[0]}): "
            "thresholds chosen on reported cases would make the report too good; give other cases with --validation"
        )


def _relabelled(table: CaseTable, part_of: dict[str, str]) -> CaseTable:
    return replace(table, cases=tuple(replace(case, split=part_of[case.key]) for case in table.cases))
