"""Whole evaluations: figures against scikit-learn, thresholds, subgroups, other models, acceptance, the command."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from benchmarks.prediction_tables import draw, write
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    classification_report,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from xrt.benchmarks.evaluation import EvaluationOptions, PredictionTable, assess, write_evaluation
from xrt.benchmarks.evaluation.measure.acceptance import Requirement, read_requirements
from xrt.benchmarks.evaluation.measure.comparison import cohens_kappa
from xrt.benchmarks.evaluation.measure.subgroups import MEAN
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.thresholds import ThresholdRule

NAMES = ["Mass", "Nodule", "No Finding"]
FEW = EvaluationOptions(resamples=50)


def predictions_of(path):
    table = PredictionTable.read(path)
    return table.predictions(table.cases())


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    labels, probability = draw(400)
    patient, view = [i // 2 for i in range(400)], ["PA", "AP", "AP", "PA"] * 100
    ages = ["", *[str(5 + i % 80) for i in range(399)]]
    folder = tmp_path_factory.mktemp("tables")
    return predictions_of(write(folder / "first.csv", labels, probability, patient=patient, view=view, age=ages))


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    return predictions_of(write(tmp_path_factory.mktemp("tables") / "validation.csv", *draw(300, seed=1)))


@pytest.fixture(scope="module")
def assessed(reported, validation):
    return assess(
        reported, "all", validation=validation, options=EvaluationOptions(resamples=200, rule=ThresholdRule("youden"))
    )


def test_figures_are_those_of_scikit_learn(assessed):
    evaluation, record = assessed
    for j, c in enumerate(evaluation.classes):
        truth, scores = record.predictions.truth[:, j], record.predictions.probability[:, j]
        called = scores >= c.threshold
        expected = {
            "auroc": roc_auc_score(truth, scores),
            "average_precision": average_precision_score(truth, scores),
            "accuracy": accuracy_score(truth, called),
            "sensitivity": recall_score(truth, called),
            "specificity": recall_score(~truth, ~called),
            "precision": precision_score(truth, called),
            "npv": precision_score(~truth, ~called),
            "f1": f1_score(truth, called),
        }
        for name, value in expected.items():
            estimate = getattr(c.figures, name)
            assert estimate.value == pytest.approx(value, abs=1e-9), name
            assert estimate.low < estimate.value < estimate.high, name
        assert c.figures.ece.low < c.figures.ece.value < c.figures.ece.high
        cells = c.true_positives, c.false_negatives, c.false_positives, c.true_negatives
        assert evaluation.confusions[j].counts == ((cells[3], cells[2]), (cells[1], cells[0]))
    assert evaluation.mean.auroc.value == pytest.approx(
        roc_auc_score(record.predictions.truth, record.predictions.probability, average="macro"), abs=1e-9
    )
    lines = classification_report(
        record.predictions.truth, record.predictions.decisions, output_dict=True, zero_division=0
    )
    for line, key in zip(
        evaluation.report_lines, ["0", "1", "2", "micro avg", "macro avg", "weighted avg"], strict=True
    ):
        assert line.f1 == pytest.approx(lines[key]["f1-score"], abs=1e-12)


def test_thresholds_come_from_validation_alone(assessed, validation):
    evaluation, record = assessed
    for j, c in enumerate(evaluation.classes):
        scores, truth = validation.probability[:, j], validation.truth[:, j]
        points = {p.rule: p for p in evaluation.operating if p.name == c.name}
        assert points["0.5"].threshold == 0.5
        assert points["youden"].threshold == ThresholdRule("youden").threshold(scores, truth) == c.threshold
        assert points["youden"].sensitivity == c.figures.sensitivity
        fixed = points["sensitivity:0.95"]
        assert recall_score(truth, scores >= fixed.threshold) >= 0.95
        called = record.predictions.probability[:, j] >= fixed.threshold
        assert fixed.f1.value == pytest.approx(f1_score(record.predictions.truth[:, j], called))


def test_without_validation_nothing_is_chosen(reported):
    evaluation, _ = assess(reported, "all", options=FEW)
    assert {p.rule for p in evaluation.operating} == {"0.5"}  # a table has no thresholds of its own
    assert (evaluation.validation, evaluation.recalibrated) == (None, ())
    with pytest.raises(UsageError, match="chosen on validation cases, never on the reported ones"):
        assess(reported, "all", options=replace(FEW, temperature=True))


def test_subgroups_are_figures_of_their_images(assessed):
    evaluation, record = assessed
    view = np.array([case.view for case in record.predictions.table.cases])
    rows = {(s.by, s.group, s.name): s for s in evaluation.subgroups}
    pa = rows["view", "PA", "Mass"]
    chosen = view == "PA"
    truth, scores = record.predictions.truth[chosen, 0], record.predictions.probability[chosen, 0]
    assert (pa.images, pa.positives) == (200, int(truth.sum()))
    assert pa.auroc.value == pytest.approx(roc_auc_score(truth, scores), abs=1e-9)
    assert pa.auroc.low < pa.auroc.value < pa.auroc.high
    assert list(dict.fromkeys(s.group for s in evaluation.subgroups if s.by == "age")) == [
        "0–17", "18–39", "40–64", "65 and over", "not recorded",
    ]  # fmt: skip
    alone = rows["age", "not recorded", "Mass"]
    assert (alone.images, str(alone.auroc), str(alone.specificity)) == (1, "not defined", "not defined")
    assert not any(s.by == "sex" for s in evaluation.subgroups)  # not recorded of any case
    pa = [rows["view", "PA", name] for name in record.predictions.names]
    mean = rows["view", "PA", MEAN]
    assert mean.auroc.value == pytest.approx(np.mean([row.auroc.value for row in pa]))
    assert mean.sensitivity.value == pytest.approx(np.mean([row.sensitivity.value for row in pa]))
    assert mean.auroc.low < mean.auroc.value < mean.auroc.high


def test_lesions_of_phantoms_by_contrast(assessed, tmp_path):
    """A band holds the class's lesions of that contrast against all images without the class."""
    record = assessed[1]
    cases, truth = record.predictions.table.cases, record.predictions.truth
    rows = [f"{case.key},Mass,0,0,1,1,{20 + 100 * (i % 2)}" for i, case in enumerate(cases) if truth[i, 0] and i % 5]
    (tmp_path / "phantoms.csv").write_text("\n".join(["image,label,x,y,width,height,contrast", *rows]) + "\n")
    predictions = replace(record.predictions, table=replace(record.predictions.table, root=tmp_path))
    subgroups = assess(predictions, "all", options=FEW)[0].subgroups
    bands = {s.group: s for s in subgroups if (s.by, s.name) == ("contrast", "Mass")}
    assert list(bands) == ["under 40", "70 and over", "not recorded"]
    faint = np.array([bool(i % 5) and not i % 2 for i in range(len(cases))])
    chosen = faint | ~truth[:, 0]
    assert bands["under 40"].positives == int((faint & truth[:, 0]).sum())
    assert bands["under 40"].auroc.value == pytest.approx(
        roc_auc_score(truth[chosen, 0], predictions.probability[chosen, 0]), abs=1e-9
    )


def test_a_class_with_one_kind_of_case_is_not_defined(tmp_path):
    labels, probability = draw(60)
    labels[:, 2] = False
    evaluation, record = assess(predictions_of(write(tmp_path / "p.csv", labels, probability)), "all", options=FEW)
    absent = evaluation.classes[2].figures
    for figure in (absent.auroc, absent.average_precision, absent.sensitivity, absent.f1):
        assert figure.value is None
    assert absent.specificity.value is not None
    both = [c.figures.auroc.value for c in evaluation.classes[:2]]
    assert evaluation.mean.auroc.value == pytest.approx(np.mean(both))
    write_evaluation(tmp_path / "r", evaluation, record)
    assert "want of one kind of case: Effusion" in (tmp_path / "r" / "report.md").read_text()
    assert "NaN" not in (tmp_path / "r" / "metrics.json").read_text()


def test_an_empty_table(reported):
    with pytest.raises(DataError, match="has no cases"):
        nothing = reported.table.subset([])
        assess(replace(reported, table=nothing, logits=np.empty((0, 3)), probability=np.empty((0, 3))), "all")


def test_two_models_are_compared_case_by_case(reported, tmp_path):
    other = replace(predictions_of(write(tmp_path / "other.csv", *draw(400, noise=2.0))), thresholds=(0.5, 0.3, 0.9))
    other = replace(other, table=reported.table)
    evaluation, record = assess(reported, "all", others=(other,), options=EvaluationOptions(resamples=300))
    (comparison,) = evaluation.comparisons
    for j, row in enumerate(comparison.classes):
        truth, was, becomes = reported.truth[:, j], reported.decisions[:, j], other.decisions[:, j]
        difference = roc_auc_score(truth, other.probability[:, j]) - roc_auc_score(truth, reported.probability[:, j])
        assert row.auroc_difference.value == pytest.approx(difference, abs=1e-9)
        assert row.kappa == pytest.approx(cohen_kappa_score(was, becomes), abs=1e-12)
        assert row.gained + row.lost == (was != becomes).sum() == row.mended + row.broken
        assert row.gained - row.lost == becomes.sum() - was.sum()
    changed = (reported.decisions != other.decisions).any(axis=1)
    assert f"decisions would change for {changed.sum()} of 400 images" in comparison.verdict
    assert "Its AUROC is lower" in comparison.verdict
    write_evaluation(tmp_path / "r", evaluation, record)
    rows = list(csv.DictReader((tmp_path / "r" / "disagreements.csv").open()))
    assert len(rows) == (reported.decisions != other.decisions).sum()
    assert all(row["positive"] != row["other_positive"] for row in rows)


def test_a_model_beside_itself_changes_nothing(reported):
    evaluation, _ = assess(reported, "all", others=(reported,), options=FEW)
    (comparison,) = evaluation.comparisons
    assert "every decision on these 400 images would stay as it is" in comparison.verdict
    assert "Its AUROC is the same." in comparison.verdict
    assert cohens_kappa(np.ones(3, dtype=bool), np.ones(3, dtype=bool)) is None


def test_models_of_other_classes_are_named(reported, tmp_path):
    labels, probability = draw(400)
    strangers = predictions_of(write(tmp_path / "s.csv", labels, probability, names=("Mass", "Edema", "Effusion")))
    with pytest.raises(DataError, match="Mass, Edema, Effusion.*Mass, Nodule, Effusion.*do not have the same classes"):
        assess(reported, "all", others=(strangers,), options=FEW)


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (["auroc>=0.6"], "accepted"),
        (["auroc>=0.6", "sensitivity:Mass >= 0.99"], "refused"),
        (["auroc>=0.6", "sensitivity:Mass >= 0.75", "ece<=0.2"], "insufficient evidence"),
        (["ece<=0.001"], "refused"),
    ],
)
def test_acceptance_judges_the_interval(assessed, reported, limits, verdict):
    evaluation, _ = assess(
        reported, "all", options=EvaluationOptions(resamples=100, requirements=read_requirements(limits))
    )
    assert evaluation.acceptance.verdict == verdict


def test_a_perfect_score_on_a_handful_is_no_evidence(tmp_path):
    """Every resample of a perfect ranking is perfect, and three positives prove little however they score."""
    labels = np.arange(60)[:, None] < (30, 3, 30)
    probability = np.where(labels, 0.9, 0.1) + np.linspace(0, 0.05, 60)[:, None]
    probability[0, 1] = probability[59, 1] + 0.01  # one positive among the negatives, so that resamples vary
    predictions = predictions_of(write(tmp_path / "p.csv", labels, probability))
    for limit, verdict in (
        ("auroc:Mass>=0.9", "insufficient evidence"),
        ("auroc:Nodule>=0.01", "insufficient evidence"),
        ("sensitivity:Mass>=0.8", "accepted"),
        ("sensitivity:Mass>=0.95", "insufficient evidence"),
    ):
        evaluation, _ = assess(predictions, "all", options=EvaluationOptions(requirements=(Requirement.parse(limit),)))
        assert evaluation.acceptance.verdict == verdict, limit


def test_limits_come_from_files_too(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("- auroc >= 0.9\n- 'specificity:A: B >= 0.8'\n")
    assert read_requirements([str(file)]) == (
        Requirement("auroc", None, ">=", 0.9),
        Requirement("specificity", "A: B", ">=", 0.8),
    )
    file.write_text("auroc: 0.9")
    with pytest.raises(UsageError, match="is no list of limits"):
        read_requirements([str(file)])
    for text in ("auroc=0.9", "none.yaml"):
        with pytest.raises(UsageError, match="--acceptance takes a limit"):
            read_requirements([text])
    for text in ("auroc>=high", "beauty>=0.9", "auroc>=90"):
        with pytest.raises(UsageError, match="is no limit"):
            read_requirements([text])


def test_a_limit_for_a_class_that_is_not_there(reported):
    with pytest.raises(UsageError, match="names no class of the model: it has Mass, Nodule, Effusion"):
        assess(reported, "all", options=replace(FEW, requirements=(Requirement("auroc", "Hernia", ">=", 0.5),)))
