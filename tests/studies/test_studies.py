"""Every study that xrt must be able to reproduce: trained, exported, evaluated, explained and reported.

Phantoms replace patients, and one short epoch a training: the tests prove that every step works, from the data set's
own layout to its tables and figures, not how good a model is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from studies.recipes import STUDIES, Study

from xrt.runtime import Bundle
from xrt.train.recipes.loader import load_recipe

LAYERS = {"rsna-resnet50": ("layer2", "layer3", "layer4")}


def walk(
    study: Study, data: Path, out: Path, xrt: Callable[..., int], changes: tuple[str, ...], *, force: bool = False
) -> None:
    """The whole road of one study, command by command; with `force` a bundle that proves nothing is published too."""
    run, bundle = out / "run", out / "model.xrt"
    sets = [part for change in changes for part in ("--set", change)]
    assert xrt("train", study.recipe, "--data", data, "--out", run, *sets) == 0
    layers = [part for layer in LAYERS.get(study.recipe, ()) for part in ("--target-layer", layer)]
    forced = ["--force"] if force else []
    assert xrt("export", run, "--out", bundle, *layers, *forced) in ((0, 1) if force else (0,))
    part = ["--split", "test", "--split-file", run / "split.csv"]
    assert xrt("evaluate", bundle, data, "--out", out / "evaluation", *part, "--bootstrap", 50) == 0
    few = ["--top-k", 4, "--examples", 1, "--heatmaps", "all"]
    assert xrt("explain", bundle, data, "--out", out / "explained", *part, *few, "--limit", 6) == 0
    short = ["--steps", 3, "--random-orders", 1, "--limit", 4]
    assert xrt("faithfulness", bundle, data, "--out", out / "faithful", *part, *short) == 0


def check(study: Study, out: Path) -> None:
    """What a researcher finds at the end of it."""
    recipe = load_recipe(study.recipe)
    manifest = Bundle.open(out / "model.xrt").manifest
    spec = manifest.preprocessing
    assert (spec.equalisation, spec.border_crop) == (
        recipe.preprocessing.equalisation,
        recipe.preprocessing.border_crop,
    )
    names = [c.name for c in manifest.logit_classes]
    with (out / "run" / "split.csv").open(newline="") as stream:
        test = {row["key"] for row in csv.DictReader(stream) if row["part"] == "test"}
    figures = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert figures["images"] == len(test)
    assert [c["name"] for c in figures["classes"]] == names
    absent = [c["name"] for c in figures["classes"] if c["figures"]["auroc"]["value"] is None]
    page = (out / "evaluation" / "report.html").read_text()
    for heading in ("Discrimination", "Confusion", "Calibration", "Data-set card", "Model card"):
        assert heading in page, heading
    assert not absent or "not defined" in page
    assert "synthetic phantoms" in page, "the caveat of the data set travels into the report"
    with (out / "explained" / "heatmaps.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["image"] for row in rows} <= test
    assert any(row["file"] for row in rows)
    assert len([cam.layer for cam in manifest.graph.cams]) == max(1, len(LAYERS.get(study.recipe, ())))
    for folder in ("explained", "faithful"):
        assert (out / folder / "report.html").stat().st_size > 10_000


# One study in the suite, with three layers explained. The others take a minute each.
WALKED = [
    study if study.recipe == "rsna-resnet50" else pytest.param(study, marks=pytest.mark.slow) for study in STUDIES
]


@pytest.mark.parametrize("study", WALKED, ids=lambda study: study.recipe)
def test_a_study_from_its_data_to_its_report(
    study: Study, data_sets: Callable[[str], Path], tmp_path: Path, xrt: Callable[..., int]
) -> None:
    walk(study, data_sets(study.layout), tmp_path, xrt, study.small)
    check(study, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.recipe)
def test_a_study_at_its_full_size(
    study: Study, data_sets: Callable[[str], Path], tmp_path: Path, xrt: Callable[..., int]
) -> None:
    whole = tuple(change for change in study.small if not change.startswith("preprocessing."))
    # After one short epoch the large networks' maps may be empty, or one number all over the image: the gate says that
    # they prove nothing. They must not be wrong.
    walk(study, data_sets(study.layout), tmp_path, xrt, whole, force=True)
    verdicts = {certificate.verdict for certificate in Bundle.open(tmp_path / "model.xrt").manifest.certificates}
    assert verdicts <= {"passed", "passed (synthetic only)", "insufficient"}
    check(study, tmp_path)


@pytest.mark.parametrize("study", [s for s in STUDIES if s.layout == "nih"], ids=lambda study: study.recipe)
def test_a_study_starts_on_real_radiographs(
    study: Study, shared: Path, tmp_path: Path, xrt: Callable[..., int]
) -> None:
    sets = [part for change in study.small for part in ("--set", change)]
    assert xrt("train", study.recipe, "--data", shared / "xrays" / "nih", "--out", tmp_path / "run", *sets) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert sum(part["images"] for part in metrics["split"].values()) <= 42


def test_the_second_trunk_of_a_study_starts(
    data_sets: Callable[[str], Path], tmp_path: Path, xrt: Callable[..., int]
) -> None:
    study = next(study for study in STUDIES if study.recipe == "covid-densenet201")
    sets = [part for change in study.small for part in ("--set", change)]
    assert xrt("train", study.recipe, "--data", data_sets(study.layout), "--out", tmp_path / "run", *sets) == 0
