"""Exclusive classes made of labels, patients from file names, and the checks of what the caller asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xrt.runtime.datasets import LabelledBox, open_dataset
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.geometry import Box

TWO = {"normal": ["No Finding"], "abnormal": ["*"]}
# The labels of the NIH rows in conftest.py: Cardiomegaly|Effusion, No Finding, Infiltration, Hernia|Infiltration.
BOXES = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000001_000.png,Cardiomegaly,1,2,3,4,,,\n"
    "00000002_000.png,Infiltrate,5,6,7,8,,,\n"
)


def test_two_groups_are_binary_and_the_first_is_negative(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(boxes=BOXES), groups=TWO)
    assert (table.task, table.classes, table.left_out) == ("binary", ("normal", "abnormal"), 0)
    np.testing.assert_array_equal(table.labels, [[1], [0], [1], [1]])
    assert [case.boxes for case in table.cases] == [
        (LabelledBox("abnormal", Box(1, 2, 3, 4)),),
        (),
        (LabelledBox("abnormal", Box(5, 6, 7, 8)),),
        (),
    ]


def test_the_order_may_be_named(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(), groups=TWO, classes=["abnormal", "normal"])
    np.testing.assert_array_equal(table.labels, [[0], [1], [0], [0]])


def test_images_of_no_group_are_left_out_and_counted(nih_folder: Callable[..., Path]) -> None:
    groups = {"clear": ["No Finding"], "heart": ["Cardiomegaly"], "hernia": ["Hernia"]}
    table = open_dataset(nih_folder(boxes=BOXES), groups=groups)
    assert (table.task, table.classes, table.left_out) == ("multiclass", ("clear", "heart", "hernia"), 1)
    assert [case.labels for case in table.cases] == [("heart",), ("clear",), ("hernia",)]
    assert table.summary()["left_out"] == 1


def test_one_of_its_labels_is_enough(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(), groups={"fluid": ["Effusion"], "other": ["*"]})
    assert [case.labels for case in table.cases] == [("fluid",), ("other",), ("other",), ("other",)]


def test_two_groups_cannot_share_an_image(nih_folder: Callable[..., Path]) -> None:
    groups = {"haze": ["Infiltration"], "hernia": ["Hernia"]}
    message = r"00000003_000\.png has the labels Hernia, Infiltration and so belongs to 'haze' and to 'hernia'\. .*put"
    with pytest.raises(DataError, match=message):
        open_dataset(nih_folder(), groups=groups)


def test_an_ignored_label_settles_it(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(), groups={"haze": ["Infiltration"], "hernia": ["Hernia"]}, ignore=["Hernia"])
    assert [case.labels for case in table.cases] == [("haze",), ("haze",)]
    assert table.left_out == 2


def test_groups_after_any_reader(csv_file: Callable[..., Path], medmnist_file: Callable[..., Path]) -> None:
    table = open_dataset(
        csv_file("path,Mass\na.png,1\nb.png,0\nc.png,1\n"), groups={"no mass": ["*"], "mass": ["Mass"]}
    )
    np.testing.assert_array_equal(table.labels, [[1], [0], [1]])
    labels = {"train": np.array([[0], [1]]), "val": np.array([[1]]), "test": np.array([[0]])}
    table = open_dataset(medmnist_file(labels), groups={"ill": ["pneumonia"], "well": ["normal"]})
    np.testing.assert_array_equal(table.labels, [[1], [0], [0], [1]])


def test_labels_that_no_image_has_are_mentioned(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(), groups={"normal": ["No Finding"], "ill": ["Efusion", "Effusion"]})
    assert table.notes[-1] == "The groups name labels that no image has: Efusion."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": {"all": ["*"]}}, "the only group is all; groups make exclusive classes, so give two or more"),
        ({"groups": {}}, "the only group is missing"),
        ({"groups": {"a": ["*"], "b": ["*"]}}, r"label '\*' is in the groups 'a' and 'b'; remove it from one"),
        ({"groups": {"a": ["Mass"], "b": ["Mass"]}}, "label 'Mass' is in the groups 'a' and 'b'"),
        ({"groups": {"a": ["Mass"], "b": []}}, r"group 'b' has the labels \[\]; give a list of labels, or \['\*'\]"),
        ({"groups": {"a": ["Mass"], "b": "*"}}, "group 'b' has the labels '\\*'; give a list"),
        ({"groups": TWO, "classes": ["normal", "ill"]}, "the classes are normal, ill, but the groups are normal, abn"),
        ({"classes": ["Mass", "Mass"]}, r"the classes are Mass, Mass; name each once \(data\.classes\)"),
        ({"classes": []}, "the classes are none"),
        ({"allow_missing": 5}, "may be missing is 5; give a number from 0 to 1"),
        ({"patient_pattern": "(["}, r"'\(\[' is no regular expression: unterminated.*\(data\.patient_pattern\)"),
        ({"patient_pattern": "[0-9]+"}, "has no group; put the patient's part in parentheses"),
    ],
)
def test_wrong_arguments(nih_folder: Callable[..., Path], arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(nih_folder(), **arguments)


KERMANY = ("NORMAL/IM-0115-0001.jpeg", "PNEUMONIA/person1_bacteria_1.jpeg", "PNEUMONIA/person1_bacteria_2.jpeg")


def test_patients_from_file_names(tree: Callable[..., Path]) -> None:
    table = open_dataset(tree(*KERMANY), patient_pattern=r"(person\d+|IM-\d+)")
    assert [case.patient for case in table.cases] == ["IM-0115", "person1", "person1"]
    assert table.notes == ()


@pytest.mark.parametrize("pattern", [r"(person\d+)", r"(person\d+)?"])
def test_a_file_without_patient(tree: Callable[..., Path], pattern: str) -> None:
    with pytest.raises(DataError, match=r"NORMAL/IM-0115-0001\.jpeg does not match the pattern of patients"):
        open_dataset(tree(*KERMANY), patient_pattern=pattern)


@pytest.mark.parametrize("names", [["Mass"], ["Mass", "Nodule"]])
def test_no_image_of_any_class(tree: Callable[..., Path], names: Sequence[str]) -> None:
    with pytest.raises(DataError, match=rf"no image belongs to any of {', '.join(names)}; the labels are a, b"):
        open_dataset(tree("a/1.png", "b/1.png"), classes=names, ignore=None)
