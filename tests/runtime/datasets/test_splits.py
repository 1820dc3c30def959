"""Splits: no patient on two sides, shares met, the same on every machine; and how `open_dataset` refuses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrt.runtime.datasets import Case, CaseTable, Splits, open_dataset
from xrt.runtime.datasets.images import ArrayImages
from xrt.runtime.errors import DataError


def table_of(patients: list[str]) -> CaseTable:
    cases = tuple(Case(f"train/{i}", (), patient) for i, patient in enumerate(patients))
    return CaseTable("made", Path("made"), "multilabel", ("Mass",), cases, ArrayImages({}))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 30).map(str), min_size=12, max_size=200), st.integers(0, 5))
def test_every_case_once_and_no_patient_twice(patients: list[str], seed: int) -> None:
    table = table_of(patients)
    if len(set(patients)) < 3:
        with pytest.raises(DataError, match="part would be empty"):
            table.split(seed=seed)
        return
    splits = table.split(seed=seed)
    assert sorted(case.key for part in splits for case in part.cases) == sorted(case.key for case in table.cases)
    groups = [{case.patient for case in part.cases} for part in splits]
    assert all(groups)
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_shares_are_met_within_a_patient() -> None:
    splits = table_of([str(i // 3) for i in range(900)]).split((0.7, 0.15, 0.15), seed=3)
    # A patient has three images, so no part can be further from its share than that.
    assert [abs(len(part) - share * 900) <= 3 for part, share in zip(splits, (0.7, 0.15, 0.15), strict=True)] == [
        True
    ] * 3


def test_the_seed_decides_and_nothing_else() -> None:
    table = table_of([str(i) for i in range(40)])
    chosen = [case.key for case in table.split(seed=0).test.cases]
    assert chosen == [case.key for case in table.split(seed=0).test.cases]
    assert chosen != [case.key for case in table.split(seed=1).test.cases]
    # Written down, so that a change of the algorithm, or of Python, that would reshuffle old studies is seen.
    assert chosen == ["train/3", "train/7", "train/17", "train/18", "train/23", "train/35"]


def test_a_leak_cannot_be_built() -> None:
    table = table_of(["1", "2", "3", "1"])
    with pytest.raises(DataError, match=r"1 patients are in both train and test \(for example 1\)"):
        Splits(table.subset([0]), table.subset([1]), table.subset([3]))


@pytest.mark.parametrize("proportions", [(0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (0.0, 0.5, 0.5), (0.5, 0.5)])
def test_bad_proportions(proportions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="give fractions of train, val and test that add up to 1"):
        table_of(["1", "2", "3"]).split(proportions)


def test_subset_keeps_order() -> None:
    assert [case.key for case in table_of(["a", "b", "c"]).subset([2, 0]).cases] == ["train/2", "train/0"]


def test_unknown_places(tmp_path: Path, medmnist_file: Callable[[Mapping[str, np.ndarray]], Path]) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_dataset(tmp_path / "absent")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="its file of labels is missing. Layouts: NIH ChestX-ray14 is a folder with"):
        open_dataset(tmp_path)


def test_the_case_table_needs_no_torch() -> None:
    code = "import sys, xrt.runtime.datasets; print(sorted({'torch', 'onnx', 'pydicom'} & set(sys.modules)))"
    actual = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert actual.stdout.strip() == "[]"
