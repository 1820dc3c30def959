"""Tables of predictions that do not fit, and the parts of a data set: who may give thresholds and who is reported."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from benchmarks.prediction_tables import NAMES, draw, write

from xrt.benchmarks.evaluation import EvaluationRequest, PredictionTable, assess, evaluate, select_part
from xrt.benchmarks.evaluation.measure.prediction_table import write_predictions
from xrt.benchmarks.evaluation.measure.selection import split_by_file, split_by_proportions
from xrt.runtime.datasets import open_dataset
from xrt.runtime.errors import DataError, UsageError

LABELS, PROBABILITY = draw(60)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "p.csv", LABELS, PROBABILITY)


def predictions_of(path):
    table = PredictionTable.read(path)
    return table.predictions(table.cases())


def test_a_table_that_was_written_is_read_again(path, tmp_path):
    first = predictions_of(path)
    write_predictions(tmp_path / "again.csv", first)
    again = predictions_of(tmp_path / "again.csv")
    np.testing.assert_array_equal(first.truth, again.truth)
    np.testing.assert_array_equal(first.probability, again.probability)  # three decimals survive nine digits


def test_further_columns_describe_the_cases(tmp_path):
    ages = ["", "7", "60.0", *["50"] * 57]
    table = write(
        tmp_path / "p.csv", LABELS, PROBABILITY, patient=[i // 2 for i in range(60)], sex=["F"] * 60, age=ages
    )
    cases = PredictionTable.read(table).cases().cases
    assert [case.age for case in cases[:3]] == [None, 7, 60]
    assert (cases[0].patient, cases[1].patient, cases[2].patient) == ("0", "0", "1")
    assert (cases[0].sex, cases[0].view) == ("F", None)


def test_columns_that_sum_to_one_are_multiclass(tmp_path):
    softmax = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.5, 0.3, 0.2]])
    one_hot = np.eye(3, dtype=bool)[[0, 1, 2, 1]]
    predictions = predictions_of(write(tmp_path / "p.csv", one_hot, softmax))
    assert (predictions.task, predictions.thresholds) == ("multiclass", (None, None, None))
    evaluation, _ = assess(predictions, "all")
    assert evaluation.accuracy.value == 0.75
    assert evaluation.confusions[0].counts == ((1, 0, 0), (1, 1, 0), (0, 0, 1))
    assert evaluation.operating == ()
    both = np.eye(3, dtype=bool)[[0, 1, 2, 1]] | [True, False, False]
    assert predictions_of(write(tmp_path / "q.csv", both, softmax)).task == "multilabel"


def changed(path, row: int, column: int, value: str):
    rows = list(csv.reader(path.open()))
    rows[row][column] = value
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (3, 4, "nan", "line 4: probability:Mass is 'nan'; a probability is a number from 0 to 1"),
        (3, 5, "1.2", "line 4: probability:Nodule is '1.2'"),
        (3, 5, "high", "line 4: probability:Nodule is 'high'"),
        (2, 1, "2", "line 3: label:Mass is '2'; a label is 0 or 1"),
        (2, 1, "", "line 3: label:Mass is ''"),
        (5, 0, "image-0.png", "line 6: image-0.png is listed twice; remove one row"),
        (5, 0, "", "line 6: image must not be empty; complete the row"),
        (0, 4, "probability:Edema", "only label has Mass; only probability has Edema; both need every class"),
        (0, 0, "file", "has no column 'image'; its columns are file, "),
        (0, 5, "probability:Mass", "has several columns 'probability:Mass'; rename or remove all but one"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(path, row, column, value, message):
    with pytest.raises(DataError) as error:
        PredictionTable.read(changed(path, row, column, value))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_without_rows_labels_or_text(tmp_path):
    with pytest.raises(DataError, match="has a header but no rows"):
        PredictionTable.read(write(tmp_path / "p.csv", LABELS[:0], PROBABILITY[:0]))
    with pytest.raises(DataError, match="has no label:NAME columns"):
        PredictionTable.read(write(tmp_path / "q.csv", None, PROBABILITY)).cases()
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8"):
        PredictionTable.read(tmp_path / "b.csv")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        PredictionTable.read(tmp_path / "none.csv")


def test_a_table_of_some_images_does_not_pass_for_all(path, phantom_folder, tmp_path):
    table = open_dataset(phantom_folder, classes=["Mass", "Nodule"], ignore=None)
    keys = [case.key for case in table.cases]
    some = write(tmp_path / "s.csv", None, PROBABILITY[:30, :2], names=("Nodule", "Mass"), keys=keys[:30])
    with pytest.raises(DataError, match="has no row for 10 of 40 images of nih"):
        PredictionTable.read(some).predictions(table)
    whole = write(tmp_path / "w.csv", None, PROBABILITY[:40, :2], names=("Nodule", "Mass"), keys=keys)
    predictions = PredictionTable.read(whole).predictions(table)
    np.testing.assert_array_equal(predictions.probability, PROBABILITY[:40, [1, 0]])
    evaluation, _ = evaluate(EvaluationRequest(whole, phantom_folder, split="all"))
    assert [c.name for c in evaluation.classes] == ["Nodule", "Mass"]  # in the order of the table that was named first
    with pytest.raises(DataError, match="only nih .* has Mass, Nodule; only p.csv has Effusion|classes differ"):
        PredictionTable.read(path).predictions(table)


def test_proportions_mean_the_same_cases_as_in_training(phantom_folder):
    table = open_dataset(phantom_folder, classes=["Mass"], ignore=None)
    expected = table.split((0.5, 0.25, 0.25), seed=3).test
    cases, part = select_part(split_by_proportions(table, (0.5, 0.25, 0.25), 3), "test")
    assert part == "test"
    assert [case.key for case in cases.cases] == [case.key for case in expected.cases]


def test_a_split_file_is_followed_to_the_letter(phantom_folder, tmp_path):
    table = open_dataset(phantom_folder, classes=["Mass"], ignore=None)
    parts = table.split((0.5, 0.25, 0.25), seed=1)
    rows = [(case.key, name) for name in ("train", "val", "test") for case in getattr(parts, name).cases]
    file = tmp_path / "split.csv"

    def written(rows):
        file.write_text("key,part\n" + "".join(f"{key},{part}\n" for key, part in rows))
        return split_by_file(table, file)

    cases, _ = select_part(written(rows), "val")
    assert {case.key for case in cases.cases} == {case.key for case in parts.val.cases}
    assert len(written(rows[1:])) == len(rows) - 1, "training did not use an image that its split does not name"
    with pytest.raises(DataError, match=r"names 1 images that are not in nih .*for example other\.png"):
        written([*rows, ("other.png", "test")])
    with pytest.raises(DataError, match="line 2: the part is 'trial'"):
        written([(rows[0][0], "trial"), *rows[1:]])
    with pytest.raises(DataError, match="is in two parts"):
        written([*rows, (rows[0][0], "test")])
    file.write_text("image,part\n")
    with pytest.raises(DataError, match="has no column 'key'; its columns are image, part"):
        split_by_file(table, file)


def test_an_official_part_that_is_not_there(phantom_folder):
    table = open_dataset(phantom_folder, classes=["Mass"], ignore=None)
    assert select_part(table, "auto")[1] == "test"
    with pytest.raises(DataError, match="no official part 'val'"):
        select_part(table, "val")
    with pytest.raises(DataError, match="has no cases"):
        select_part(table.subset([]), "auto")


def test_reported_cases_never_give_thresholds(path, tmp_path):
    reported = predictions_of(path)
    with pytest.raises(DataError, match="60 of 60 reported images are also among the validation cases"):
        evaluate(EvaluationRequest(path, validation=write(tmp_path / "v.csv", LABELS, PROBABILITY)))
    with pytest.raises(DataError, match="patient leak"):
        assess(reported, "all", validation=reported)
    with pytest.raises(UsageError, match="would choose thresholds on reported cases"):
        evaluate(EvaluationRequest(path, threshold_split="val"))
    # The same names in another data set are other images.
    others = write(tmp_path / "o.csv", *draw(60, seed=8))
    evaluation, _ = evaluate(EvaluationRequest(path, validation=others))
    assert evaluation.validation == "o.csv, 60 images"
    assert tuple(c.name for c in evaluation.classes) == NAMES
