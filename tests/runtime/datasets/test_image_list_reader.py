"""CSV files of paths and labels: every form that is read, and every fault by line and column."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.datasets import open_dataset
from xrt.runtime.errors import DataError


def test_one_label_a_row_is_exclusive(csv_file: Callable[..., Path]) -> None:
    table = open_dataset(csv_file("path,label\na.png,pneumonia\nb.png,normal\nc.png,pneumonia\n"))
    assert (table.task, table.classes) == ("binary", ("normal", "pneumonia"))
    np.testing.assert_array_equal(table.labels, [[1], [0], [1]])
    assert open_dataset(table.root / "list.csv", classes=["pneumonia", "normal"]).logit_classes == ("normal",)
    assert table.pixels(2).tolist() == np.full((12, 10), 2).tolist()


def test_several_labels_are_independent(csv_file: Callable[..., Path]) -> None:
    table = open_dataset(csv_file("path,labels\na.png,Mass|Effusion\nb.png,No Finding\nc.png,\n"))
    assert (table.task, table.classes) == ("multilabel", ("Effusion", "Mass"))
    np.testing.assert_array_equal(table.labels, [[1, 1], [0, 0], [0, 0]])


def test_an_image_without_its_label_is_told_of(csv_file: Callable[..., Path]) -> None:
    """One cell left empty makes two exclusive classes independent ones: nobody would guess it from the figures."""
    table = open_dataset(csv_file("path,label\na.png,ill\nb.png,\nc.png,normal\n"))
    assert table.task == "multilabel"
    assert "images without any are listed (1), so labels count as independent" in table.notes[0]


def test_three_labels_are_multiclass(csv_file: Callable[..., Path]) -> None:
    table = open_dataset(csv_file("path,label\na.png,tb\nb.png,normal\nc.png,covid\n"))
    assert (table.task, table.classes) == ("multiclass", ("normal", "covid", "tb"))


def test_columns_of_0_and_1_are_independent(csv_file: Callable[..., Path]) -> None:
    table = open_dataset(
        csv_file("path,Mass,Effusion,No Finding,patient\na.png,1,0,0,x\nb.png,0,0,1,x\nc.png,1.0,1,0,y\n")
    )
    assert (table.task, table.classes) == ("multilabel", ("Mass", "Effusion"))
    np.testing.assert_array_equal(table.labels, [[1, 0], [0, 0], [1, 1]])
    assert [case.patient for case in table.cases] == ["x", "x", "y"]
    assert table.notes == ()


def test_what_is_known_of_each_image(csv_file: Callable[..., Path]) -> None:
    text = (
        "Path,LABEL,Patient,View,Sex,Age,Split\na.png,x,1,PA,F,063Y,train_val\nb.png,y,2,,,,TEST\nc.png,y,3,AP,M,7.0,\n"
    )
    found = [(c.patient, c.view, c.sex, c.age, c.split) for c in open_dataset(csv_file(text)).cases]
    assert found == [("1", "PA", "F", 63, "train_val"), ("2", None, None, None, "test"), ("3", "AP", "M", 7, None)]


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfpath,label\na.png,x\nb.png,y\n",
        b"path,label\r\na.png,x\r\n\r\nb.png,y\r\n",
        b'path, label \n "a.png" , x\nb.png,y',
        b"path,label,\na.png,x,\nb.png,y,\n",
    ],
    ids=["byte order mark", "Windows line ends", "spaces", "trailing commas"],
)
def test_as_people_save_it(csv_file: Callable[..., Path], text: bytes) -> None:
    table = open_dataset(csv_file(text))
    assert [(case.key, case.labels) for case in table.cases] == [("a.png", ("x",)), ("b.png", ("y",))]


def test_paths_below_and_elsewhere(csv_file: Callable[..., Path], tree: Callable[..., Path]) -> None:
    folder = tree("far.png", root="elsewhere") / "far.png"
    file = csv_file("")
    file.write_text(f"path,label\n./deep/../a.png,x\n{file.parent}/b.png,x\n{folder},y\n")
    table = open_dataset(file)
    assert [case.key for case in table.cases] == ["a.png", "b.png", folder.as_posix()]
    assert table.pixels(2).shape == (12, 10)


def test_missing_images(csv_file: Callable[..., Path]) -> None:
    file = csv_file("path,label\na.png,x\nb.png,y\ngone.png,y\n")
    with pytest.raises(DataError, match=r"list\.csv: 1 of 3 images are not on disk \(for example gone\.png\)"):
        open_dataset(file)
    assert open_dataset(file, allow_missing=0.5).missing == ("gone.png",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no column 'path'|has no rows"),
        ("path,label\n", "has a header but no rows"),
        ("file,label\na.png,x\n", r"no column 'path' that says where the images are; its columns are file, label"),
        ("path;label\na.png;x\n", r"seem to be separated by semicolons; separate them by commas"),
        ("path\tlabel\na.png\tx\n", "seem to be separated by tabs; separate them by commas"),
        ("path,label\na.png,x\nb.png,x\n", "the only class is x, and an image has just one"),
        (
            "path,label\na.png,normal\nb.png,Normal\n",
            "'Normal' and 'normal' differ in capitals alone; write them alike",
        ),
        ('path,label\na.png,"x\ny"\nb.png,z\n', r"'x\\ny' is no name of a class; rename it"),
        ("path,patient\na.png,1\n", "has no labels: add a column 'label', or one column of 0 and 1 for every class"),
        ("path,label,labels\na.png,x,x\n", "columns 'label' and 'labels'; keep one of them"),
        ("path,Label,label\na.png,x,x\n", "columns 'Label' and 'label'; keep one of them"),
        ("path,Mass,Mass\na.png,1,1\n", "several columns 'Mass'; rename or remove all but one"),
        ("path,label\na.png,x\n./a.png,y\n", r"line 3: a\.png is listed twice; keep one row"),
        ("path,Mass\na.png,1\nb.png,-1\n", r"line 3: column 'Mass' holds '-1'; a class's column holds 1 or 0"),
        ("path,Mass\na.png,\n", r"line 2: column 'Mass' holds ''; .* uncertain and empty labels"),
        ("path,label\na,b.png,x\n", "line 2: 3 cells, but 2 columns; quote cells that hold a comma"),
        ("path,label\n,x\n", "line 2: path must not be empty"),
        ("path,label,patient\na.png,x,\n", "line 2: patient must not be empty"),
        ("path,label,split\na.png,x,dev\n", "line 2: split is 'dev'; it is one of train, val, test, train_val"),
        ("path,label,age\na.png,x,old\n", "line 2: age is 'old'; give years from 0 to 120"),
        ("path,label\n../a.png,x\n", r"line 2: \.\./a\.png leaves the folder of the file; give an absolute path"),
        ("path,label\n.,x\n", r"line 2: \. is a folder; list the images in it"),
        (b"path,label\na.png,M\xfcll\n", r"is not UTF-8 \(byte 18\); save it again as CSV in UTF-8"),
        ("path,label\na.png,x\nb.png,y\n".encode("utf-16"), r"is not UTF-8 \(byte 0\)"),
    ],
)
def test_faults_are_named(csv_file: Callable[..., Path], text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(csv_file(text))


def test_a_folder_named_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "set.csv").mkdir()
    with pytest.raises(DataError, match="no data set that xrt knows"):
        open_dataset(tmp_path / "set.csv")
