"""The NIH layout: both header styles, both folder styles, boxes, official lists, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.datasets import LabelledBox, open_dataset
from xrt.runtime.errors import DataError
from xrt.runtime.geometry import Box

SHARED = Path(__file__).parents[4] / "shared" / "xrays" / "nih"
BOXES = (
    "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
    "00000001_000.png,Cardiomegaly,1.5,2,3,4,,,\n"
    "00000002_000.png,Infiltrate,5,6,7.25,8,,,\n"
)


@pytest.mark.parametrize("header", ["published", "copied"])
def test_labels_patients_and_columns(nih_folder: Callable[..., Path], header: str) -> None:
    table = open_dataset(nih_folder(header=header))
    assert table.task == "multilabel"
    assert table.classes == ("Cardiomegaly", "Effusion", "Infiltration", "Hernia"), "the paper's order"
    expected = [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert table.labels.dtype == np.float32
    np.testing.assert_array_equal(table.labels, expected)
    first = table.cases[0]
    assert (first.key, first.patient, first.view, first.sex, first.age) == (
        "images/00000001_000.png",
        "1",
        "PA",
        "M",
        58,
    )
    assert [case.age for case in table.cases] == [58, 58, 81, 5]


def test_the_population_is_what_the_table_records(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder())
    assert table.population == f"patients of 5 to 81 years (median 58); views AP, PA; as recorded in {table.name}"


@pytest.mark.parametrize(
    ("text", "years"), [("060Y", 60), ("060", 60), ("018M", 1), ("020D", 0), ("414Y", None), ("", None)]
)
def test_ages(nih_folder: Callable[..., Path], text: str, years: int | None) -> None:
    rows = [("a.png", "Mass", "1", text, "M", "PA")]
    assert open_dataset(nih_folder(rows, header="copied")).cases[0].age == years


def test_images_in_downloaded_parts(nih_folder: Callable[..., Path]) -> None:
    folders = {"00000001_000.png": "images_001/images", "00000002_000.png": "images_012/images"}
    table = open_dataset(nih_folder(folders=folders))
    assert [case.key.rpartition("/")[0] for case in table.cases] == [
        "images_001/images",
        "images",
        "images_012/images",
        "images",
    ]
    assert table.pixels(2).shape == (24, 20)
    assert (table.pixels(2) == 80).all()
    assert table.load(2, Preprocessing(height=8, width=16)).shape == (8, 16)


def test_boxes_have_the_tables_spelling(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(boxes=BOXES))
    assert table.cases[0].boxes == (LabelledBox("Cardiomegaly", Box(1.5, 2, 3, 4)),)
    assert table.cases[2].boxes == (LabelledBox("Infiltration", Box(5, 6, 7.25, 8)),)
    assert table.summary()["boxes"] == 2


def test_no_finding_is_a_class_only_when_asked_for(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder()
    ignored = ["Cardiomegaly", "Hernia", "Infiltration"]
    table = open_dataset(root, classes=["No Finding", "Effusion"], ignore=ignored)
    np.testing.assert_array_equal(table.labels, [[0, 1], [1, 0], [0, 0], [0, 0]])


def test_official_lists(nih_folder: Callable[..., Path]) -> None:
    rows = [(f"{i:08d}_000.png", "Mass", str(i % 6), "50", "M", "PA") for i in range(24)]
    test = [row[0] for row in rows if row[2] in "01"]
    train_val = [row[0] for row in rows if row[2] not in "01"]
    root = nih_folder(rows, lists={"train_val_list.txt": train_val, "test_list.txt": test})
    splits = open_dataset(root).split((0.5, 0.25, 0.25), official=True)
    assert {Path(case.key).name for case in splits.test.cases} == set(test)
    assert (len(splits.train), len(splits.val)) == (12, 4), "whole patients of four images, one in three to val"


def test_leaking_official_lists_are_refused(nih_folder: Callable[..., Path]) -> None:
    names = ["00000001_000.png", "00000002_000.png", "00000003_000.png"], ["00000001_001.png"]
    root = nih_folder(lists=dict(zip(("train_val_list.txt", "test_list.txt"), names, strict=True)))
    with pytest.raises(DataError, match=r"patient leak: 1 patients are in both .* \(for example 1\)"):
        open_dataset(root).split(official=True)


def test_an_image_in_both_lists_is_refused(nih_folder: Callable[..., Path]) -> None:
    name = "00000001_000.png"
    root = nih_folder(lists={"train_val_list.txt": [name], "test_list.txt": [name]})
    with pytest.raises(DataError, match=f"{name} is in train_val_list.txt and in test_list.txt"):
        open_dataset(root)


def test_official_split_without_lists_is_refused(nih_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"4 of 4 images are in no official split.*data\.official=false"):
        open_dataset(nih_folder()).split(official=True)


def test_few_missing_images_are_counted(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder(absent=["00000002_000.png"])
    with pytest.raises(DataError, match=r"1 of 4 images are not on disk \(for example 00000002_000.png\).*5%"):
        open_dataset(root)
    table = open_dataset(root, allow_missing=0.25)
    assert (len(table), table.missing) == (3, ("00000002_000.png",))


def test_all_images_missing_is_never_allowed(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder([("a.png", "Mass", "1", "50", "M", "PA")], absent=["a.png"])
    with pytest.raises(DataError, match="1 of 1 images are not on disk"):
        open_dataset(root, allow_missing=1.0)


def test_a_missing_column_is_named(nih_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"Data_Entry_2017\.csv has no column 'Finding Labels'; its columns are Image"):
        open_dataset(nih_folder(header="Image Index,Labels,Follow-up #,Patient ID"))


def test_a_repeated_image_is_refused(nih_folder: Callable[..., Path]) -> None:
    rows = [("a.png", "Mass", "1", "50", "M", "PA")] * 2
    with pytest.raises(DataError, match=r"line 3: a\.png is listed twice"):
        open_dataset(nih_folder(rows))


def test_labels_outside_the_classes_are_refused(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder()
    with pytest.raises(DataError, match=r"Cardiomegaly \(1 images\), Hernia \(1 images\).*data\.ignore_labels"):
        open_dataset(root, classes=["Effusion", "Infiltration"])


def test_a_broken_box_row_is_named(nih_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv, line 4: expected image, label, x, y, width, height"):
        open_dataset(nih_folder(boxes=BOXES + "00000001_000.png,Mass,1,2,wide,4\n"))


def test_the_name_does_not_claim_the_data_set(nih_folder: Callable[..., Path]) -> None:
    assert open_dataset(nih_folder()).name == "set (NIH ChestX-ray14 layout)"


@pytest.mark.skipif(not SHARED.is_dir(), reason="real radiographs (../shared/xrays/nih) are not here")
def test_the_published_files() -> None:
    table = open_dataset(SHARED)
    assert (len(table), table.missing, len(table.classes)) == (42, (), 14)
    assert sum(bool(case.boxes) for case in table.cases) == 7
    assert sum(case.view == "PA" for case in table.cases) == 33
    splits = table.split(official=True)
    assert sum(map(len, splits)) == 42
    assert len(splits.test) == 11
    assert table.pixels(0).shape == (1024, 1024)


@pytest.mark.parametrize("file", ["Data_Entry_2017.csv", "BBox_List_2017.csv", "test_list.txt"])
def test_another_encoding_is_refused(nih_folder: Callable[..., Path], file: str) -> None:
    root = nih_folder(boxes=BOXES, lists={"test_list.txt": ["00000001_000.png"]})
    (root / file).write_bytes((root / file).read_bytes() + "größe".encode("latin-1"))
    with pytest.raises(DataError, match="UTF-8|'utf-8' codec"):
        open_dataset(root)


def test_one_name_in_two_folders(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder()
    part = root / "images_001" / "images"
    part.mkdir(parents=True)
    (part / "00000001_000.png").symlink_to(root / "images" / "00000001_000.png")
    assert open_dataset(root).cases[0].key == "images/00000001_000.png", "a link to the same file does no harm"
    (part / "00000001_000.png").unlink()
    (part / "00000001_000.png").write_bytes((root / "images" / "00000001_001.png").read_bytes())
    with pytest.raises(DataError, match=r"images/00000001_000\.png and images_001/images/00000001_000\.png have one"):
        open_dataset(root)


def test_every_missing_image_is_named(nih_folder: Callable[..., Path]) -> None:
    absent = ("00000001_000.png", "00000003_000.png")
    root = nih_folder(absent=absent)
    (root / "images" / "00000003_000.png").mkdir()  # a folder is no image
    assert open_dataset(root, allow_missing=0.5).missing == absent


def test_saved_by_a_spreadsheet(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder()
    file = root / "Data_Entry_2017.csv"
    # A byte order mark, Windows line ends, and the comma that the published header ends with.
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b",\r\n"))
    assert open_dataset(root).cases[0].labels == ("Cardiomegaly", "Effusion")
    file.write_bytes(file.read_text(encoding="utf-8-sig").encode("utf-16"))
    with pytest.raises(DataError, match=r"Data_Entry_2017\.csv is not UTF-8 \(byte 0\)"):
        open_dataset(root)


def test_a_box_without_extent_is_refused(nih_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"line 4: expected image, label, x, y, width, height"):
        open_dataset(nih_folder(boxes=BOXES + "00000001_000.png,Mass,1,2,0,nan\n"))


def test_an_empty_table(nih_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"Data_Entry_2017\.csv has a header but no rows"):
        open_dataset(nih_folder([]))


def test_its_caveat_travels_with_it(nih_folder: Callable[..., Path]) -> None:
    (note,) = open_dataset(nih_folder()).notes
    assert "mined from radiology reports" in note
    assert "more than 90 %" in note


def test_only_findings_that_are_asked_for_keep_their_boxes(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset(nih_folder(boxes=BOXES), classes=["Infiltration"], ignore=None)
    assert [len(case.boxes) for case in table.cases] == [0, 0, 1, 0]


def test_no_finding_beside_a_finding_is_refused(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder([("1.png", "No Finding|Mass", "1", "50", "M", "PA")])
    with pytest.raises(DataError, match=r"line 2: 1\.png has 'No Finding' beside other labels, 'No Finding\|Mass'"):
        open_dataset(root)


@pytest.mark.parametrize("sides", ["inf,1,2,2", "1,1,inf,2", "nan,1,2,2", "-1,1,2,2", "1,1,0,2"])
def test_a_box_that_is_no_place_is_refused(nih_folder: Callable[..., Path], sides: str) -> None:
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv, line 2: expected image, label, x, y, width, height"):
        open_dataset(
            nih_folder(boxes=f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Mass,{sides},,,\n")
        )
