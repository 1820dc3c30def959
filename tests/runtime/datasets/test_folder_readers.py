"""Class folders in general, and the COVID-19 Radiography Database: what is read, and what is not taken for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.datasets import is_dataset, open_dataset
from xrt.runtime.errors import DataError, UnreadableImage


def test_covid_has_four_classes_and_no_masks(covid_phantoms: Path) -> None:
    table = open_dataset(covid_phantoms)
    assert (table.task, table.classes) == ("multiclass", ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"))
    np.testing.assert_array_equal(table.labels, np.repeat(np.eye(4), 2, axis=0))
    assert [case.key for case in table.cases][-1] == "Viral Pneumonia/images/Viral Pneumonia-2.png"
    assert table.pixels(0).shape == (64, 64)


def test_covid_without_images(tmp_path: Path) -> None:
    for name in ("COVID", "Normal"):
        (tmp_path / name / "images").mkdir(parents=True)
    with pytest.raises(DataError, match="lists no image; give the complete data set"):
        open_dataset(tmp_path)


def test_covid_says_that_its_classes_come_from_different_places(tree: Callable[..., Path]) -> None:
    root = tree("COVID/images/a.png", "COVID/masks/a.png", "Normal/images/a.png", "Normal/masks/a.png")
    table = open_dataset(root)
    assert (len(table), table.task) == (2, "binary")
    assert "DeGrave" in table.notes[0]
    assert "No patient is known" in table.notes[1]


def test_three_of_covid_s_classes(covid_phantoms: Path) -> None:
    expected = ["Normal", "COVID", "Viral Pneumonia"]
    with pytest.raises(DataError, match=r"Lung_Opacity \(2 images\)"):
        open_dataset(covid_phantoms, classes=expected)
    table = open_dataset(covid_phantoms, classes=expected, ignore=["Lung_Opacity"])
    assert (table.classes, len(table), table.left_out) == (tuple(expected), 6, 2)
    assert table.labels.sum(axis=0).tolist() == [2, 2, 2]


def test_two_folders_are_binary_and_health_is_negative(tree: Callable[..., Path]) -> None:
    table = open_dataset(tree("COVID/a.png", "COVID/deeper/b.jpg", "Normal/a.png"))
    assert (table.task, table.classes) == ("binary", ("Normal", "COVID"))
    assert {case.key: int(row[0]) for case, row in zip(table.cases, table.labels, strict=True)} == {
        "COVID/a.png": 1,
        "COVID/deeper/b.jpg": 1,
        "Normal/a.png": 0,
    }


def test_official_parts(tree: Callable[..., Path]) -> None:
    # As the paediatric pneumonia set is unpacked: a copy and a resource fork lie beside the parts.
    table = open_dataset(
        tree(
            "train/NORMAL/IM-1.jpeg",
            "train/PNEUMONIA/person1_virus_1.jpeg",
            "valid/NORMAL/IM-2.jpeg",
            "test/PNEUMONIA/person2_bacteria_2.jpeg",
            "chest_xray/train/NORMAL/IM-1.jpeg",
            "__MACOSX/train/NORMAL/IM-1.jpeg",
        )
    )
    assert [case.split for case in table.cases] == ["test", "train", "train", "val"], "parts by name"
    assert [len(part) for part in table.split(official=True)] == [2, 1, 1]


def test_validation_is_split_off_training_where_there_is_none(tree: Callable[..., Path]) -> None:
    parts = [("train", 8), ("test", 3)]
    table = open_dataset(tree(*(f"{part}/{c}/{i}.png" for part, n in parts for c in ("a", "b") for i in range(n))))
    splits = table.split((0.5, 0.25, 0.25), official=True)
    # 16 training images in the ratio of 2 to 1, one patient each: no part can be further from its share than one.
    assert (len(splits.train), len(splits.val), len(splits.test)) in {(11, 5, 6), (10, 6, 6)}
    assert {case.split for case in (*splits.train.cases, *splits.val.cases)} == {"train"}


def test_two_names_for_validation(tree: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="several folders for validation: keep one of valid, validation and val"):
        open_dataset(tree("train/a/1.png", "val/a/1.png", "valid/a/1.png"))


def test_an_empty_folder_stays_a_class(tree: Callable[..., Path]) -> None:
    root = tree("Normal/a.png", "Pneumonia/a.png", "Tuberculosis/a.png")
    (root / "Pneumonia" / "a.png").unlink()
    table = open_dataset(root)
    assert table.classes == ("Normal", "Pneumonia", "Tuberculosis")
    assert table.summary()["classes"]["Pneumonia"] == {"images": 0, "prevalence": 0}


def test_other_files_are_mentioned(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "Thumbs.db").write_bytes(b"x")
    (root / "a" / ".DS_Store").write_bytes(b"x")
    assert (
        open_dataset(root).notes[0] == "Files that are no images by their ending are not read: 1, such as a/Thumbs.db."
    )


def test_an_unreadable_image_is_named_when_it_is_decoded(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "b" / "1.png").write_bytes((root / "a" / "1.png").read_bytes()[:44])
    with pytest.raises(UnreadableImage, match=r"b/1\.png: damaged or truncated"):
        open_dataset(root).pixels(1)


@pytest.mark.parametrize(
    "names",
    [
        ("a.png", "b.png"),
        ("a.png", "more/b.png"),
        ("images/a.png",),
        ("images_001/a.png", "images_002/b.png"),
        ("images_001/images/a.png", "images_002/images/b.png"),
        ("images/a.png", "masks/a.png"),
        ("stage_2_train_images/a.png", "stage_2_test_images/b.png"),
        ("train/a.png", "test/b.png"),
        ("only/a.png",),
        ("2024/study1/a.png", "2025/study2/b.png"),
    ],
)
def test_plain_images_have_no_classes(tree: Callable[..., Path], names: tuple[str, ...]) -> None:
    root = tree(*names)
    assert not is_dataset(root)
    with pytest.raises(
        DataError, match="no data set that xrt knows.*class folders is a folder with a folder of images"
    ):
        open_dataset(root)


def test_other_layouts_are_not_class_folders(
    nih_folder: Callable[..., Path], covid_phantoms: Path, rsna_phantoms: Path, tree: Callable[..., Path]
) -> None:
    nih = nih_folder()
    tree("a/1.png", "b/1.png")  # into the same folder
    for root, name in ((nih, "NIH"), (covid_phantoms, "COVID-19"), (rsna_phantoms, "RSNA")):
        assert f"({name}" in open_dataset(root).name


def test_folders_that_systems_make_are_no_classes(tree: Callable[..., Path]) -> None:
    assert open_dataset(tree("a/1.png", "b/1.png", "__MACOSX/a/._1.png", ".git/x.png")).classes == ("a", "b")


def test_a_file_name_that_cannot_be_written(tree: Callable[..., Path]) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "1.png").rename(os.fsdecode(os.fsencode(root) + b"/a/\xff.png"))
    with pytest.raises(DataError, match=r"the file name a/\\xff\.png cannot be written; rename it"):
        open_dataset(root)


def test_a_misspelt_class_of_covid_is_not_lost(tree: Callable[..., Path]) -> None:
    names = ["COVID/images/1.png", "Normal/images/1.png", "Viral_Pneumonia/images/1.png"]
    with pytest.raises(DataError, match=r"Viral_Pneumonia has images, and is none of COVID, Lung_Opacity, Normal"):
        open_dataset(tree(*names))
