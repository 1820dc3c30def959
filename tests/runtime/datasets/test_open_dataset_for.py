"""Opening a data set with the classes of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xrt.runtime.bundle.manifest import ClassSpec
from xrt.runtime.datasets import open_dataset, open_dataset_for
from xrt.runtime.errors import DataError

ROWS = "path,Mass\na.png,1\nb.png,0\nc.png,1\n"


def model(task: str, *classes: str | tuple[str, Sequence[str]]) -> SimpleNamespace:
    """Classes by name, or with the labels that count as them."""
    pairs = [(spec, None) if isinstance(spec, str) else (spec[0], tuple(spec[1])) for spec in classes]
    return SimpleNamespace(task=task, classes=tuple(ClassSpec(name=name, labels=labels) for name, labels in pairs))


def test_a_multilabel_model_ignores_other_labels(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset_for(model("multilabel", "Effusion", "Hernia", "Rickets"), nih_folder())
    assert table.task == "multilabel"
    np.testing.assert_array_equal(table.labels, [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]])


def test_labels_that_count_as_a_class(nih_folder: Callable[..., Path]) -> None:
    root = nih_folder()
    two = open_dataset_for(model("binary", ("normal", ["No Finding"]), ("abnormal", ["*"])), root)
    assert (two.task, two.classes) == ("binary", ("normal", "abnormal"))
    np.testing.assert_array_equal(two.labels, [[1], [0], [1], [1]])
    several = open_dataset_for(
        model("multilabel", ("fluid", ["Effusion"]), ("heart", ["Cardiomegaly"]), "Hernia"), root
    )
    np.testing.assert_array_equal(several.labels, [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]])
    one = open_dataset_for(model("multilabel", ("fluid", ["Effusion"])), root)
    np.testing.assert_array_equal(one.labels, [[1], [0], [0], [0]])


def test_exclusive_classes_by_name_leave_the_rest_out(nih_folder: Callable[..., Path]) -> None:
    table = open_dataset_for(model("binary", "No Finding", "Effusion"), nih_folder())
    assert ([case.labels for case in table.cases], table.left_out) == ([("Effusion",), ("No Finding",)], 2)


def test_a_model_with_a_logit_for_each_of_two_classes(tree: Callable[..., Path]) -> None:
    table = open_dataset_for(model("multiclass", "normal", "ill"), tree("normal/a.png", "ill/a.png"))
    assert table.task == "multiclass"
    np.testing.assert_array_equal(table.labels, [[0, 1], [1, 0]])


def test_a_multilabel_model_on_exclusive_labels(tree: Callable[..., Path]) -> None:
    table = open_dataset_for(model("multilabel", "Mass", "Pneumonia"), tree("Normal/a.png", "Pneumonia/a.png"))
    assert (table.task, table.left_out) == ("multilabel", 0)
    np.testing.assert_array_equal(table.labels, [[0, 0], [0, 1]])


def test_the_tables_that_layouts_give_by_themselves(rsna_phantoms: Path, medmnist_file: Callable[..., Path]) -> None:
    for path, names in (
        (rsna_phantoms, ["No Lung Opacity", "Lung Opacity"]),
        (rsna_phantoms, ["Lung Opacity", "No Lung Opacity"]),
        (medmnist_file({p: np.array([[0], [1]]) for p in ("train", "val", "test")}), ["Normal", "Pneumonia"]),
    ):
        table = open_dataset_for(model("binary", *names), path)
        np.testing.assert_array_equal(table.labels, open_dataset(path, classes=names).labels)


def test_a_known_data_set_is_read_by_name_whatever_the_order(medmnist_file: Callable[..., Path]) -> None:
    path = medmnist_file({p: np.array([[0], [1], [1]]) for p in ("train", "val", "test")})
    table = open_dataset_for(model("binary", "pneumonia", "normal"), path)
    np.testing.assert_array_equal(table.labels[:3], [[1], [0], [0]])


def test_a_class_without_images_is_legal_where_nothing_else_could_be_it(tree: Callable[..., Path]) -> None:
    root = tree("normal/a.png", "ill/a.png")
    assert open_dataset_for(model("multiclass", "normal", "ill", "worse"), root).labels.sum(axis=0).tolist() == [
        1,
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("task", "names", "absent", "others"),
    [
        ("multilabel", ["Scurvy", "Rickets"], "Scurvy, Rickets", "Cardiomegaly, Effusion, Hernia, Infiltration"),
        ("binary", ["normal", "Effusion"], "normal", "Cardiomegaly, Hernia, Infiltration, No Finding"),
        ("multiclass", ["a", "b", "c"], "a, b, c", "Cardiomegaly, Effusion, Hernia, Infiltration, No Finding"),
    ],
)
def test_labels_of_another_model(
    nih_folder: Callable[..., Path], task: str, names: Sequence[str], absent: str, others: str
) -> None:
    message = f"has no image of {absent}, but images of {others}; the model's classes are {', '.join(names)}. Give"
    with pytest.raises(DataError, match=message):
        open_dataset_for(model(task, *names), nih_folder())


def test_images_without_label_cannot_be_of_one_of_two_classes(csv_file: Callable[..., Path]) -> None:
    file = csv_file(ROWS)
    with pytest.raises(DataError, match="has no image of normal, but images of no label; the model's classes are norm"):
        open_dataset_for(model("binary", "normal", "Mass"), file)
    table = open_dataset_for(model("binary", ("normal", ["*"]), ("ill", ["Mass"])), file)
    np.testing.assert_array_equal(table.labels, [[1], [0], [1]])


def test_of_very_many_labels_the_first_are_named(tree: Callable[..., Path]) -> None:
    root = tree(*(f"study{i:02d}/a.png" for i in range(50)))
    with pytest.raises(DataError, match="but images of study00, .* study19 and 30 more; the model's"):
        open_dataset_for(model("multilabel", "Mass"), root)
