"""MedMNIST files: the three kinds of labels, class names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.datasets import open_dataset
from xrt.runtime.errors import DataError

SHARED = Path(__file__).parents[4] / "shared" / "xrays" / "pneumoniamnist.npz"
BINARY = {
    "train": np.array([[1], [0], [1], [1]], np.uint8),
    "val": np.array([[0], [1]], np.uint8),
    "test": np.array([[1]], np.uint8),
}


def test_binary_labels_have_one_column(medmnist_file: Callable[..., Path]) -> None:
    table = open_dataset(medmnist_file(BINARY))
    assert (table.task, table.classes, table.logit_classes) == (
        "binary",
        ("normal", "pneumonia"),
        ("pneumonia",),
    )
    np.testing.assert_array_equal(table.labels, [[1], [0], [1], [1], [0], [1], [1]])
    assert [case.split for case in table.cases] == ["train"] * 4 + ["val"] * 2 + ["test"]
    assert len({case.patient for case in table.cases}) == 7, "no patients are known, so every image is its own"


def test_pixels_are_the_row_that_the_key_names(medmnist_file: Callable[..., Path]) -> None:
    path = medmnist_file(BINARY)
    table = open_dataset(path)
    assert table.cases[5].key == "val/1"
    with np.load(path) as arrays:
        np.testing.assert_array_equal(table.pixels(5), arrays["val_images"][1])
        # 28 px to 28 px is no resampling, so the model sees the stored pixels.
        np.testing.assert_array_equal(table.load(5, Preprocessing(height=28, width=28)), arrays["val_images"][1])


def test_official_split_and_summary(medmnist_file: Callable[..., Path]) -> None:
    table = open_dataset(medmnist_file(BINARY))
    assert [len(part) for part in table.split(official=True)] == [4, 2, 1]
    assert table.summary()["classes"] == {
        "normal": {"images": 2, "prevalence": 2 / 7},
        "pneumonia": {"images": 5, "prevalence": 5 / 7},
    }


def test_more_indices_are_multiclass(medmnist_file: Callable[..., Path]) -> None:
    labels = {"train": np.array([[0], [2]]), "val": np.array([[1]]), "test": np.array([[2]])}
    table = open_dataset(medmnist_file(labels, name="own.npz"), classes=["a", "b", "c"])
    assert table.task == "multiclass"
    np.testing.assert_array_equal(table.labels, [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1]])


def test_more_columns_are_multilabel(medmnist_file: Callable[..., Path]) -> None:
    labels = {"train": np.array([[0, 1], [1, 1]]), "val": np.array([[0, 0]]), "test": np.array([[1, 0]])}
    table = open_dataset(medmnist_file(labels, name="own.npz"), classes=["a", "b"])
    assert table.task == "multilabel"
    np.testing.assert_array_equal(table.labels, [[0, 1], [1, 1], [0, 0], [1, 0]])


def test_resolution_suffix_keeps_the_names(medmnist_file: Callable[..., Path]) -> None:
    assert open_dataset(medmnist_file(BINARY, name="pneumoniamnist_64.npz")).classes == ("normal", "pneumonia")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "own.npz"}, r"names of its 2 classes are not known; name them \(data\.classes\)"),
        (
            {"test_images": np.zeros((1, 28, 28, 3), np.uint8)},
            r"test_images is uint8 \[1, 28, 28, 3\]; expected grey",
        ),
        ({"test_images": np.zeros((1, 0, 0), np.uint8)}, r"test_images is uint8 \[1, 0, 0\]; expected grey"),
        ({"val_labels": np.array([["a"], [0]], object)}, r"cannot be read as MedMNIST \(Object arrays"),
        ({"val_labels": np.zeros((3, 1), np.uint8)}, r"val_labels is uint8 \[3, 1\] for 2 images"),
        ({"val_labels": np.zeros((2, 2), np.uint8)}, r"the splits have \[1, 2\] label columns"),
    ],
)
def test_faults_are_named(medmnist_file: Callable[..., Path], changes: Mapping[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(medmnist_file(BINARY, **changes))


@pytest.mark.parametrize(
    ("mark", "message"), [(b"PK\1\2", "cannot be read as MedMNIST"), (b"NUMPY", "cannot be read as MedMNIST")]
)
def test_a_damaged_archive_is_refused(medmnist_file: Callable[..., Path], mark: bytes, message: str) -> None:
    path = medmnist_file(BINARY)
    data = path.read_bytes()
    path.write_bytes(data.replace(mark, b"X" * len(mark)))
    with pytest.raises(DataError, match=message):
        open_dataset(path)


def test_a_missing_split_is_named(medmnist_file: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="has no array 'test_images'"):
        open_dataset(medmnist_file({name: BINARY[name] for name in ("train", "val")}))


def test_wrong_number_of_names(medmnist_file: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="has 2 classes, but 3 are named: a, b, c"):
        open_dataset(medmnist_file(BINARY), classes=["a", "b", "c"])


@pytest.mark.skipif(not SHARED.is_file(), reason="real radiographs (../shared/xrays/pneumoniamnist.npz) are not here")
def test_the_published_file() -> None:
    table = open_dataset(SHARED)
    assert [len(part) for part in table.split(official=True)] == [4708, 524, 624]
    assert table.pixels(0).shape == (28, 28)


def test_known_names_in_another_order_are_not_swapped(medmnist_file: Callable[..., Path]) -> None:
    table = open_dataset(medmnist_file(BINARY), classes=["pneumonia", "normal"])
    np.testing.assert_array_equal(table.labels[:4], [[0], [1], [0], [0]])


def test_columns_hold_0_or_1(medmnist_file: Callable[..., Path]) -> None:
    labels = {"train": np.array([[0, 2]]), "val": np.array([[0, 0]]), "test": np.array([[1, 0]])}
    with pytest.raises(DataError, match="the labels have 2 columns and the value 2; columns hold 0 or 1"):
        open_dataset(medmnist_file(labels, name="own.npz"), classes=["a", "b"])


def test_damaged_files_and_pickles_are_refused(medmnist_file: Callable[..., Path]) -> None:
    path = medmnist_file(BINARY)
    data = bytearray(path.read_bytes())
    data[300] ^= 1  # among the first array's pixels
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"pneumoniamnist\.npz cannot be read as MedMNIST \(Bad CRC-32"):
        open_dataset(path)
    pickled = medmnist_file(BINARY, name="own.npz", test_images=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"cannot be read as MedMNIST \(Object arrays cannot be loaded"):
        open_dataset(pickled, classes=["a", "b"])
