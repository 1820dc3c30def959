from __future__ import annotations

import numpy as np
import pytest
from benchmarks.linear import make_bundle

from xrt.benchmarks.contrasts import read_contrasts
from xrt.benchmarks.localisation import BoxedFinding, ImageFrame, boxed_finding, localise, pointing_game
from xrt.benchmarks.localisation.findings import coverage
from xrt.benchmarks.localisation.groups import group_findings
from xrt.benchmarks.statistics import mean_estimates
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.datasets.case import Case, LabelledBox
from xrt.runtime.errors import DataError
from xrt.runtime.geometry import Box, Placement
from xrt.runtime.scoring import Scores


def test_a_binomial_interval_is_the_normal_one():
    hits = np.random.default_rng(1).random(400) < 0.3
    (interval,) = mean_estimates(hits[:, None].astype(float), np.arange(400))
    p = hits.mean()
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    # 2,000 resamples give a percentile at 2.5 % to about a tenth of the half-width.
    assert interval.low == pytest.approx(p - half, abs=0.15 * half)
    assert interval.high == pytest.approx(p + half, abs=0.15 * half)


def test_findings_of_one_image_are_not_independent():
    values = np.random.default_rng(2).normal(size=(200, 1))
    (single,) = mean_estimates(values, np.arange(200))
    # The same finding four times over is no more evidence.
    (repeated,) = mean_estimates(np.repeat(values, 4, axis=0), np.repeat(np.arange(200), 4))
    assert repeated.low == pytest.approx(single.low, abs=1e-12)
    assert repeated.high == pytest.approx(single.high, abs=1e-12)


def test_what_is_not_defined_has_no_interval():
    none, one, part = mean_estimates(np.array([[np.nan, np.nan, 1.0], [np.nan, 0.5, 1.0]]), np.array([0, 1]))
    assert (none.value, none.low) == (None, None)
    assert (one.value, one.low) == (0.5, None)
    assert (part.value, part.low, part.high) == (1, None, None)
    assert none.text == "not defined"
    (empty,) = mean_estimates(np.empty((0, 1)), np.empty(0, dtype=np.int64))
    assert empty.value is None


def test_coverage_of_a_box_and_of_two():
    assert coverage([Box(0.25, 0.5, 0.5, 0.5)]).mean() == pytest.approx(0.25, abs=1e-12)
    # A box that no cell's edge meets keeps its area, and overlap counts once.
    assert coverage([Box(0.101, 0.203, 0.301, 0.402)]).mean() == pytest.approx(0.301 * 0.402, abs=1e-9)
    assert coverage([Box(0, 0, 0.5, 1), Box(0.25, 0, 0.5, 1)]).mean() == pytest.approx(0.75, abs=1e-12)
    assert coverage([]).mean() == 0
    assert coverage([Box(-0.5, -0.5, 2, 2)]).mean() == pytest.approx(1)


def test_a_map_is_placed_through_a_crop():
    # The input shows columns 100..200 of an image 300 wide: the hot right half of the map is x = 150..200.
    cam = np.zeros((4, 4), np.float32)
    cam[:, 2:] = 1
    frame = ImageFrame(Placement((100.0, 0.0), (100 / 32, 100 / 32)), (32, 32), (100, 300))
    finding = boxed_finding(0, "Mass", cam, [Box(150, 0, 50, 100)], frame)
    assert finding.boxes == ((0.5, 0.0, pytest.approx(1 / 6), 1.0),)
    assert finding.area == pytest.approx(1 / 6, abs=1e-9)
    assert finding.hit_by(finding.peak)
    assert finding.region is not None
    # Otsu's threshold cuts the interpolated edge within one of the map's cells, 25 pixels of 300.
    region = finding.region
    edges = (region.x, region.y, region.x + region.width, region.y + region.height)
    assert edges == pytest.approx((0.5, 0.0, 2 / 3, 1.0), abs=25 / 300)


def finding(case, box, peak, region, contrast=None, name="Mass"):
    return BoxedFinding(case, name, (box,), peak, region, contrast)


LEFT, RIGHT = Box(0.0, 0.0, 0.5, 1.0), Box(0.5, 0.0, 0.5, 1.0)


def test_baselines_by_hand():
    findings = [
        finding(0, LEFT, (0.2, 0.5), LEFT),
        finding(1, RIGHT, (0.8, 0.5), Box(0.5, 0.0, 0.5, 0.5)),
        finding(2, LEFT, None, None),
    ]
    row = localise(["Mass", "Hernia"], findings)[0]
    assert (row.kind, row.count) == ("all", 3)
    assert row.chance.value == pytest.approx(0.5)
    assert row.hits.value == pytest.approx(2 / 3)
    # Dealt: to 0 the maps of 1 and 2 (no hit), to 1 those of 0 and 2 (none), to 2 those of 0 and 1 (one of two).
    assert row.hits_shuffled.value == pytest.approx(1 / 6)
    assert row.iou.value == pytest.approx((1 + 0.5 + 0) / 3, abs=1e-6)
    assert row.iou_shuffled.value == pytest.approx((0 + 0 + 0.5) / 3, abs=1e-6)
    assert row.hits_difference.value == pytest.approx(2 / 3 - 1 / 6)
    assert row.hits.low is not None and row.hits.low <= 2 / 3 <= (row.hits.high or 0)
    hernia = next(r for r in localise(["Mass", "Hernia"], findings) if r.name == "Hernia")
    assert (hernia.count, hernia.hits.value) == (0, None)


def test_a_single_boxed_image_of_a_class_has_no_shuffled_baseline():
    row = localise(["Mass"], [finding(0, LEFT, (0.2, 0.5), LEFT)])[0]
    assert (row.hits.value, row.hits_shuffled.value, row.hits_difference.value) == (1, None, None)


def test_findings_are_grouped_by_size_and_contrast(tmp_path):
    small = Box(0.0, 0.0, 0.2, 0.2)
    rows = localise(["Mass"], [finding(0, small, None, None, 20.0), finding(1, LEFT, None, None, 80.0)])
    counts = {row.name: row.count for row in rows}
    assert counts == {
        "all": 2,
        "Mass": 2,
        "boxes under 15% of the image": 1,
        "boxes of at least 15% of the image": 1,
        "contrast under 40": 1,
        "contrast 70 and over": 1,
        "Mass, contrast under 40": 1,
        "Mass, contrast 70 and over": 1,
    }
    # Real images have no contrast, and no groups of it.
    assert [g.kind for g in group_findings(["Mass"], [finding(0, LEFT, None, None)], {})] == ["all", "class"]


def test_contrasts_of_phantoms(tmp_path, phantom_folder):
    contrasts = read_contrasts(phantom_folder)
    assert contrasts and all(18 <= value <= 110 for value in contrasts.values())
    assert read_contrasts(tmp_path) == {}
    (tmp_path / "phantoms.csv").write_text("image,label,contrast\na.png,Mass,3\na.png,Mass,9\n")
    assert read_contrasts(tmp_path) == {("a", "Mass"): 9.0}
    for contrast in ("high", "nan", "inf", "-1"):
        (tmp_path / "phantoms.csv").write_text(f"image,label,contrast\na.png,Mass,{contrast}\n")
        with pytest.raises(DataError, match="line 2: expected columns image, label and contrast"):
            read_contrasts(tmp_path)


class _Table:
    """Two cases with a box each for one class, in opposite corners of a 100 × 200 image."""

    logit_classes = ("Mass",)
    cases = (
        Case(key="a", labels=("Mass",), patient="1", boxes=(LabelledBox("Mass", Box(0, 0, 50, 25)),)),
        Case(key="b", labels=("Mass",), patient="2", boxes=(LabelledBox("Mass", Box(150, 75, 50, 25)),)),
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
    manifest = make_bundle().manifest
    manifest = manifest.model_copy(
        update={
            "preprocessing": Preprocessing(height=64, width=64),
            "graph": manifest.graph.model_copy(update={"explained": (0,)}),
        }
    )
    mass, everything = pointing_game(scores, cams, np.ones((3, 1), dtype=bool), manifest)
    assert (mass.count, mass.hits, mass.shuffled) == (2, 1.0, 0.0)
    assert mass.chance == pytest.approx(1 / 16, abs=0.01)
    assert everything.hits == mass.hits
    none, _ = pointing_game(scores, cams, np.zeros((3, 1), dtype=bool), manifest)
    assert (none.count, none.hits) == (0, None)
