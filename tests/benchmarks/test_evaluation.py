from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xrt.benchmarks.evaluation import evaluate, select_part, write_evaluation
from xrt.benchmarks.localisation import pointing_game
from xrt.benchmarks.scoring import Scores
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.cases import open_cases
from xrt.runtime.cases.case import Box, Case
from xrt.runtime.errors import DataError
from xrt.runtime.opening import open_session
from xrt.runtime.preprocessing import Placement

NAMES = ["Mass", "Nodule", "No Finding"]


def test_figures_are_those_of_scikit_learn(bundle, phantom_folder, tmp_path):
    table, part = select_part(open_cases(phantom_folder, classes=NAMES, ignore=None), "all")
    opened = open_session(bundle)
    with opened.session:
        result, scores = evaluate(bundle, opened, table, part)
    assert result.images == 40
    for j, figures in enumerate(result.classes):
        assert figures.auroc == pytest.approx(roc_auc_score(table.labels[:, j], scores.logits[:, j]), abs=1e-9)
    write_evaluation(tmp_path, result, scores)
    assert json.loads((tmp_path / "metrics.json").read_text())["mean_auroc"] == result.mean_auroc
    lines = (tmp_path / "predictions.csv").read_text().splitlines()
    assert len(lines) == 41
    assert lines[0].startswith("image,label:Mass")
    assert (tmp_path / "roc.png").stat().st_size > 5000


def test_a_class_with_one_kind_of_case_has_no_auroc(bundle, phantom_folder):
    table = open_cases(phantom_folder, classes=NAMES, ignore=None)
    healthy = table.subset([i for i, case in enumerate(table.cases) if not {"Mass", "Nodule"} & set(case.labels)])
    opened = open_session(bundle)
    with opened.session:
        result, _ = evaluate(bundle, opened, healthy, "all")
    mass = result.classes[0]
    assert (mass.images, mass.auroc, mass.sensitivity) == (0, None, None)
    assert mass.specificity is not None


def test_other_classes_are_refused(bundle, phantom_folder):
    table = open_cases(phantom_folder, classes=["Effusion"], ignore=None)
    opened = open_session(bundle)
    with opened.session, pytest.raises(DataError, match="the bundle has Mass, Nodule, No Finding"):
        evaluate(bundle, opened, table, "all")


def test_an_official_part_that_is_not_there(phantom_folder):
    table = open_cases(phantom_folder, classes=NAMES, ignore=None)
    assert select_part(table, "auto")[1] == "test"
    with pytest.raises(DataError, match="no official part 'val'"):
        select_part(table, "val")


class _Table:
    """Two cases with a box each for one class, in opposite corners of a 100 × 200 image."""

    logit_classes = ("Mass",)
    cases = (
        Case(key="a", labels=("Mass",), patient="1", boxes=(Box("Mass", 0, 0, 50, 25),)),
        Case(key="b", labels=("Mass",), patient="2", boxes=(Box("Mass", 150, 75, 50, 25),)),
        Case(key="c", labels=(), patient="3"),
    )


def test_the_pointing_game_has_its_baselines():
    cams = np.zeros((3, 1, 8, 8), dtype=np.float32)
    cams[0, 0, 0, 0] = cams[1, 0, 7, 7] = cams[2, 0, 4, 4] = 1
    placement = Placement((0.0, 0.0), (200 / 64, 100 / 64))
    zeros = np.zeros((3, 1), dtype=np.float32)
    scores = Scores.__new__(Scores)
    for name, value in {"table": _Table, "logits": zeros, "probability": zeros.astype(float), "cams": cams,
                        "placements": (placement,) * 3, "sizes": ((100, 200),) * 3}.items():  # fmt: skip
        object.__setattr__(scores, name, value)
    spec = Preprocessing(height=64, width=64)
    mass, everything = pointing_game(scores, np.ones((3, 1), dtype=bool), [0], spec)
    assert (mass.count, mass.hits, mass.shuffled) == (2, 1.0, 0.0)
    assert mass.chance == pytest.approx(1 / 16, abs=0.01)
    assert everything.hits == mass.hits
    none, _ = pointing_game(scores, np.zeros((3, 1), dtype=bool), [0], spec)
    assert (none.count, none.hits) == (0, None)
