"""Tables of predictions as other people's software writes them, and as hands that edit them leave them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from benchmarks import prediction_tables
from PIL import Image
from sklearn.metrics import roc_auc_score

from xrt.benchmarks.evaluation import EvaluationOptions, EvaluationRequest, PredictionTable, evaluate, write_evaluation
from xrt.benchmarks.evaluation.measure.acceptance import Requirement
from xrt.benchmarks.evaluation.measure.selection import split_by_proportions
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.progress import Progress

NAMES = ("COVID", "Normal", "Pneumonia")


def exclusive(path, seed=0, *, prefix="image"):
    """A table of 30 images with one label and a softmax each."""
    rng = np.random.default_rng(seed)
    labels = np.eye(3, dtype=int)[rng.integers(0, 3, 30)]
    scores = np.exp(rng.normal(size=(30, 3)) + labels)
    probability = scores / scores.sum(axis=1, keepdims=True)
    return prediction_tables.write(path, labels, probability, names=NAMES, keys=[f"{prefix}-{i}" for i in range(30)])


def with_row(path, row):
    path.write_text(path.read_text() + row + "\n")
    return path


def test_marks_line_ends_spaces_and_empty_rows_are_no_matter(tmp_path):
    plain = exclusive(tmp_path / "plain.csv")
    text = plain.read_text().replace("\n", "\r\n").replace(",", ", ") + ",,,,,,\r\n"
    (tmp_path / "edited.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    first, second = (PredictionTable.read(tmp_path / name) for name in ("plain.csv", "edited.csv"))
    assert (first.names, first.keys) == (second.names, second.keys)
    np.testing.assert_array_equal(first.probability, second.probability)


def test_semicolons_are_seen(tmp_path):
    (tmp_path / "p.csv").write_text("image;label:A;probability:A\ni;1;0,5\n")
    with pytest.raises(DataError, match="separated by semicolons; separate them by commas"):
        PredictionTable.read(tmp_path / "p.csv")


@pytest.mark.parametrize(("text", "years"), [("63", 63), ("63.0", 63), ("063Y", 63), ("", None)])
def test_ages_as_they_are_written(tmp_path, text, years):
    (tmp_path / "p.csv").write_text(f"image,age,label:A,probability:A\ni,{text},1,0.5\n")
    assert PredictionTable.read(tmp_path / "p.csv").cases().cases[0].age == years


@pytest.mark.parametrize("text", ["414", "-5", "old", "nan"])
def test_ages_that_are_none(tmp_path, text):
    (tmp_path / "p.csv").write_text(f"image,age,label:A,probability:A\ni,{text},1,0.5\n")
    with pytest.raises(DataError, match=f"line 2: age is '{text}'; give years from 0 to 120"):
        PredictionTable.read(tmp_path / "p.csv").cases()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("other,1,1,0,0.2,0.3,0.5", "line 32: the classes exclude each other, but the image has 2 labels; give it one"),
        ("other,0,0,0,0.2,0.3,0.5", "line 32: the classes exclude each other, but the image has 0 labels"),
        ("other,1,0,0,0.9,0.9,0.9", "their probabilities sum to 2.7; divide every row by its sum"),
    ],
)
def test_validation_cases_of_another_kind(tmp_path, row, message):
    """Temperatures fitted on them would mean nothing."""
    validation = with_row(exclusive(tmp_path / "v.csv", 1, prefix="other"), row)
    with pytest.raises(DataError, match=re.escape(message)):
        evaluate(EvaluationRequest(exclusive(tmp_path / "p.csv"), validation=validation))


def test_labels_that_contradict_each_other(tmp_path):
    """The rows of one of the two may be shifted: comparing such models would be nonsense."""
    first, other = exclusive(tmp_path / "p.csv"), exclusive(tmp_path / "q.csv", 1)
    with pytest.raises(DataError, match=r"q.csv and p.csv label \d+ of 30 images differently .*remove the label: col"):
        evaluate(EvaluationRequest(first, compare=(other,)))


def test_what_cannot_be_is_refused_before_anything_is_scored(bundle_path, phantom_folder, tmp_path):
    scored = []

    class Recorder(Progress):
        def count(self, done, total, what):
            scored.append(what)

    def refused(message, kind=UsageError, **options):
        request = EvaluationRequest(bundle_path, phantom_folder, **options)
        with pytest.raises(kind, match=message):
            evaluate(request, progress=Recorder())

    refused("chosen on validation cases", options=EvaluationOptions(temperature=True), threshold_split="none")
    refused(
        "names no class of the model", options=EvaluationOptions(requirements=(Requirement.parse("f1:Hernia>=0.5"),))
    )
    refused("there is no .*nowhere.xrt", compare=(tmp_path / "nowhere.xrt",))
    refused("classes differ", DataError, compare=(exclusive(tmp_path / "p.csv"),))
    assert not scored


def test_a_class_may_stand_after_a_space():
    assert Requirement.parse("sensitivity: Pneumonia >= 0.85") == Requirement.parse("sensitivity:Pneumonia>=0.85")


def test_shares_that_are_no_numbers(tmp_path):
    table = PredictionTable.read(exclusive(tmp_path / "p.csv")).cases()
    with pytest.raises(DataError, match="give fractions of train, val and test that add up to 1"):
        split_by_proportions(table, (float("nan"), 0.5, 0.5), 0)


def binary_set(path):
    """20 radiographs of two exclusive labels, as a CSV of paths; and the probability of the second label by image."""
    rng = np.random.default_rng(0)
    yes = np.arange(20) % 2
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path / f"{i}.png")
    (path / "list.csv").write_text(
        "path,label\n" + "".join(f"{i}.png,{['normal', 'ill'][y]}\n" for i, y in enumerate(yes))
    )
    return path / "list.csv", {f"{i}.png": p for i, p in enumerate(np.round(rng.random(20) / 2 + yes / 3, 3))}


@pytest.mark.parametrize("names", [("ill",), ("normal", "ill")])
def test_the_negative_cases_of_a_binary_data_set_count(tmp_path, names):
    """Whether a table has one probability of two classes, or both: not only the images that are labelled so."""
    labelled, score = binary_set(tmp_path)
    probability = [[score[key] if name == "ill" else 1 - score[key] for name in names] for key in score]
    table = prediction_tables.write(tmp_path / "p.csv", None, probability, names=names, keys=list(score))
    evaluation, record = evaluate(EvaluationRequest(table, labelled))
    ill = next(c for c in evaluation.classes if c.name == "ill")
    assert (ill.positives, ill.negatives) == (10, 10)
    truth = record.predictions.truth[:, record.predictions.names.index("ill")]
    keys = [case.key for case in record.predictions.table.cases]
    assert ill.figures.auroc.value == pytest.approx(roc_auc_score(truth, [score[key] for key in keys]), abs=1e-12)


def test_nothing_of_an_earlier_evaluation_stays(tmp_path):
    first, other = exclusive(tmp_path / "p.csv"), exclusive(tmp_path / "q.csv")
    out = tmp_path / "out"
    write_evaluation(out, *evaluate(EvaluationRequest(first, compare=(other,), options=EvaluationOptions(resamples=0))))
    assert (out / "disagreements.csv").is_file()
    write_evaluation(out, *evaluate(EvaluationRequest(first, options=EvaluationOptions(resamples=0))))
    assert not (out / "disagreements.csv").exists()
