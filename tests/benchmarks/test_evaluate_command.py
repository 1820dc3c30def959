"""Bundles and the command: `xrt evaluate` from a data set to a report."""

from __future__ import annotations

import json
import shutil

import pytest
import typer
from sklearn.metrics import roc_auc_score

from xrt.benchmarks.cli.evaluate import evaluate as command
from xrt.benchmarks.evaluation import CasePart, EvaluationOptions, evaluate_session, select_part, write_evaluation
from xrt.runtime.datasets import open_dataset
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.session import open_session

NAMES = ["Mass", "Nodule", "No Finding"]
FEW = EvaluationOptions(resamples=50)


def test_a_bundle_on_phantoms(bundle, phantom_folder, tmp_path):
    cases = select_part(open_dataset(phantom_folder, classes=NAMES, ignore=None), "all")
    with open_session(bundle) as opened:
        evaluation, record = evaluate_session(opened, cases, options=FEW)
    assert evaluation.images == 40
    for j, c in enumerate(evaluation.classes):
        assert c.figures.auroc.value == pytest.approx(
            roc_auc_score(cases.table.labels[:, j], record.predictions.logits[:, j]), abs=1e-9
        )
    assert evaluation.pointing[-1].name == "all"
    report = write_evaluation(tmp_path, evaluation, record)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["mean"]["auroc"]["value"] == evaluation.mean.auroc.value
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert (len(lines), lines[0][:16]) == (41, "image,label:Mass")
    text = (tmp_path / "report.md").read_text()
    for title in ("Discrimination", "Operating points", "Calibration", "Localisation", "Data-set card", "Model card"):
        assert f"## {title}" in text
    assert "Not a medical device" in report.read_text()


def test_other_classes_are_refused(bundle, phantom_folder):
    table = open_dataset(phantom_folder, classes=["Effusion"], ignore=None)
    with open_session(bundle) as opened, pytest.raises(DataError, match="the bundle has Mass, Nodule, No Finding"):
        evaluate_session(opened, CasePart(table, "all"))


def test_an_unreadable_image_is_named_and_in_no_figure(bundle_path, phantom_folder, tmp_path, capsys):
    folder = tmp_path / "phantoms"
    shutil.copytree(phantom_folder, folder)
    broken = sorted((folder / "images").glob("*.png"))[7]
    broken.write_bytes(broken.read_bytes()[:400])
    chosen = {"split": "all", "bootstrap": 50}
    with pytest.raises(typer.Exit) as stop:
        command(bundle_path, tmp_path / "o", folder, compare=[bundle_path], **chosen)
    assert stop.value.exit_code == 3
    assert f"1 image could not be scored, the first: images/{broken.name}" in capsys.readouterr().err
    metrics = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert (metrics["images"], [u["key"] for u in metrics["unscored"]]) == (39, [f"images/{broken.name}"])
    assert "could not be scored, left out | 1: images/" in (tmp_path / "o" / "report.md").read_text()
    with pytest.raises(DataError, match="1 of 40 images cannot be scored"):
        command(bundle_path, tmp_path / "p", folder, allow_unreadable=0.0, **chosen)


def test_the_command_reports_compares_and_judges(bundle_path, phantom_folder, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    command(bundle_path, first, phantom_folder, split="all", bootstrap=50)
    assert "40 images of" in capsys.readouterr().out
    with pytest.raises(typer.Exit) as stop:
        command(
            bundle_path,
            second,
            phantom_folder,
            compare=[first / "predictions.csv"],
            split="all",
            bootstrap=50,
            acceptance=["brier<=0.001"],
            json=tmp_path / "e.json",
        )
    assert stop.value.exit_code == 1
    printed = capsys.readouterr().out
    assert "If predictions replaced compact" in printed
    assert "site acceptance: refused" in printed
    assert json.loads((tmp_path / "e.json").read_text())["acceptance"]["verdict"] == "refused"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bundle_out": "n.xrt"}, "ask for them with --thresholds or --temperature"),
        ({"dataset": None}, "give DATASET"),
        ({"thresholds": "best"}, "is no rule for thresholds"),
        ({"proportions": "0.7,0.3"}, "--proportions takes three shares"),
        ({"proportions": "0.5,0.25,0.25", "split_file": "s.csv"}, "leave out --proportions"),
        ({"thresholds": "youden", "split": "all"}, "chosen on validation cases"),
    ],
)
def test_wrong_use_of_the_command(bundle_path, phantom_folder, tmp_path, options, message):
    paths = {name: tmp_path / options[name] for name in ("bundle_out", "split_file") if name in options}
    with pytest.raises(UsageError, match=message):
        command(bundle_path, tmp_path / "o", **{"dataset": phantom_folder, **options, **paths})
    assert not (tmp_path / "o").exists()
