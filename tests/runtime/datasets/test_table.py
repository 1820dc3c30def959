"""Tables: balanced subsets, co-occurrence, summaries, and what a terminal shows of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.datasets import Case, CaseTable, LabelledBox, describe, open_dataset
from xrt.runtime.datasets.images import ArrayImages
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.geometry import Box


def made(*labels: tuple[str, ...], classes: tuple[str, ...], task: str = "multiclass") -> CaseTable:
    cases = tuple(Case(f"{i}.png", names, f"{i}") for i, names in enumerate(labels))
    return CaseTable("made", Path("made"), task, classes, cases, ArrayImages({}))


SKEWED = made(*[("a",)] * 9, *[("b",)] * 4, *[("c",)] * 2, classes=("a", "b", "c"))


def test_as_many_of_each_as_the_rarest_has() -> None:
    table = SKEWED.balanced()
    assert Counter(case.labels[0] for case in table.cases) == {"a": 2, "b": 2, "c": 2}
    assert {case.key for case in table.cases} >= {"13.png", "14.png"}
    order = [SKEWED.cases.index(case) for case in table.cases]
    assert order == sorted(order)


def test_the_draw_is_the_same_everywhere() -> None:
    # Written down, so that a change of the algorithm that would redraw old studies is seen.
    assert [case.key for case in SKEWED.balanced(1, seed=42).cases] == ["4.png", "11.png", "13.png"]
    draws = {tuple(case.key for case in SKEWED.balanced(1, seed=seed).cases) for seed in range(20)}
    assert len(draws) > 10, "and the seed decides"


def test_a_larger_draw_holds_the_smaller_one() -> None:
    one, two = ({case.key for case in SKEWED.balanced(n, seed=3).cases} for n in (1, 2))
    assert one < two


@pytest.mark.parametrize(
    ("table", "per_class", "error", "message"),
    [
        (SKEWED, 3, DataError, "class 'c' has 2 images and 3 of each class are asked for; ask for fewer"),
        (SKEWED, 0, UsageError, "0 images per class are asked for; give 1 or more"),
        (made(("a",), classes=("a", "b")), None, DataError, "class 'b' has 0 images and 1 of each"),
        (made(("a", "b"), classes=("a", "b"), task="multilabel"), 1, UsageError, "made is multilabel, .*data.groups"),
    ],
)
def test_what_cannot_be_balanced(table: CaseTable, per_class: int | None, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        table.balanced(per_class)


def test_co_occurrence_counts_pairs_of_the_published_table(shared: Path) -> None:
    table = open_dataset(shared / "xrays" / "nih")
    with (shared / "xrays" / "nih" / "Data_Entry_2017.csv").open(newline="") as stream:
        labels = [row["Finding Labels"].split("|") for row in csv.DictReader(stream)]
    pairs = Counter(frozenset(pair) for names in labels for pair in combinations(names, 2))
    single = Counter(name for names in labels for name in names)
    actual = table.co_occurrence()
    assert actual.dtype == np.int64
    for i, first in enumerate(table.classes):
        for j, second in enumerate(table.classes):
            assert actual[i, j] == (single[first] if i == j else pairs[frozenset((first, second))])


def test_binary_tables_count_both_classes() -> None:
    table = made(("well",), ("ill",), ("ill",), classes=("well", "ill"), task="binary")
    assert table.co_occurrence().tolist() == [[1, 0], [0, 2]]


def test_a_summary_of_what_is_known(nih_folder: Callable[..., Path]) -> None:
    actual = open_dataset(nih_folder(absent=["00000003_000.png"]), allow_missing=0.5).summary()
    assert (actual["images"], actual["patients"], actual["missing"], actual["missing_images"]) == (
        3,
        2,
        1,
        ["00000003_000.png"],
    )
    assert (actual["views"], actual["sexes"], actual["parts"]) == ({"AP": 1, "PA": 2}, {"F": 1, "M": 2}, {})
    assert actual["ages"] == {"known": 3, "lowest": 58, "median": 58, "highest": 81}
    assert actual["classes"]["Effusion"] == {"images": 1, "prevalence": pytest.approx(1 / 3)}
    assert actual["co_occurrence"] == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_nothing_is_defined_of_nothing() -> None:
    actual = made(classes=("a", "b")).summary()
    assert actual["classes"] == {name: {"images": 0, "prevalence": None} for name in "ab"}
    assert (actual["ages"], actual["views"], actual["co_occurrence"]) == (None, {}, [[0, 0], [0, 0]])


def test_a_terminal_shows_independent_classes() -> None:
    cases = (
        Case(
            "1",
            ("Mass", "Hernia"),
            "p",
            view="PA",
            sex="F",
            age=40,
            split="test",
            boxes=(LabelledBox("Mass", Box(0, 0, 1, 1)),),
        ),
        Case("2", ("Mass",), "p", view="AP", age=61),
        Case("3", (), "q"),
    )
    table = CaseTable(
        "set",
        Path("set"),
        "multilabel",
        ("Mass", "Hernia", "Edema"),
        cases,
        ArrayImages({}),
        missing=tuple(f"{i}.png" for i in range(7)),
        notes=("Labels may be wrong.",),
    )
    assert describe(table) == (
        "set: 3 images of 2 patients, multilabel\n"
        "  missing   7 listed images not on disk: 0.png, 1.png, 2.png, 3.png, 4.png, …\n"
        "  parts     test 1, unknown 2\n"
        "  views     AP 1, PA 1, unknown 1\n"
        "  sexes     F 1, unknown 2\n"
        "  ages      40 to 61 years, median 50.5\n"
        "  boxes     1\n"
        "\n"
        "class    images  prevalence\n"
        "Mass          2       66.7%\n"
        "Hernia        1       33.3%\n"
        "Edema         0           –   no image has it\n"
        "\n"
        "images with both classes (columns by number; on the diagonal, images of the class)\n"
        "             1   2   3\n"
        "  1 Mass     2   1   0\n"
        "  2 Hernia   1   1   0\n"
        "  3 Edema    0   0   0\n"
        "\n"
        "Note: Labels may be wrong."
    )


def test_a_terminal_shows_exclusive_classes(nih_folder: Callable[..., Path]) -> None:
    shown = describe(open_dataset(nih_folder(), groups={"heart": ["Cardiomegaly"], "hernia": ["Hernia"]}))
    assert "  left out  2 images of no class\n" in shown
    assert "heart         1       50.0%   negative\nhernia        1       50.0%   positive\n" in shown
    assert "both classes" not in shown


def test_phantoms_do_not_pass_for_patients(covid_phantoms: Path) -> None:
    assert open_dataset(covid_phantoms).notes[0].startswith("These are synthetic phantoms")
