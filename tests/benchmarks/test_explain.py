from __future__ import annotations

import csv
import dataclasses
import sys

import numpy as np
import pytest
from benchmarks.linear import NAMES, make_bundle, make_opened
from benchmarks.test_scoring import damage
from PIL import Image

from xrt.benchmarks.evaluation import CasePart
from xrt.benchmarks.explanation import examples as examples_module
from xrt.benchmarks.explanation import explain as explain_module
from xrt.benchmarks.explanation.composite import composite
from xrt.benchmarks.explanation.explain import explain
from xrt.benchmarks.explanation.map_statistics import map_statistics, mean_statistics
from xrt.benchmarks.explanation.mean_heatmaps import MeanHeatmap
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.palette import CLASS_COLOURS
from xrt.benchmarks.explanation.selection import choose_examples, hard_cases, top_cases
from xrt.benchmarks.explanation.tiles import Sheet, Tile
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.geometry import Placement
from xrt.runtime.heatmaps.overlay import overlay


@pytest.fixture
def run(monkeypatch):
    """`explain` on linear bundles."""
    for module in (explain_module, examples_module):
        monkeypatch.setattr(module, "open_session", lambda bundle, **_: make_opened(bundle))

    def explained(table, out, bundle=None, compare=(), **options):
        values = ExplainOptions(**{"examples": 2, "top_k": 3, **options})
        return explain(bundle or make_bundle(), CasePart(table, "all"), out, values, compare=compare)

    return explained


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_top_and_hard_cases():
    probability = np.array([0.9, 0.2, 0.7, 0.9, 0.4, 0.1])
    predicted = probability >= 0.5
    labelled = np.array([True, True, False, False, True, False])
    assert top_cases(probability, 3) == [0, 3, 2]
    assert hard_cases(probability, predicted, labelled, 5) == ([3, 2], [1, 4])
    assert hard_cases(probability, predicted, labelled, 1) == ([3], [1])
    assert hard_cases(probability, predicted, predicted, 5) == ([], [])


def test_examples_take_turns_and_name_no_case_twice():
    probability = np.array([[0.9, 0.8], [0.8, 0.9], [0.1, 0.7], [0.2, 0.1]])
    labelled = np.array([[True, True], [True, True], [False, True], [False, False]])
    assert choose_examples(probability, labelled, 3) == [(0, 0), (1, 1), (2, 1)]
    assert choose_examples(probability, labelled, 0) == []
    # Classes without labels give what they have; no more than all cases.
    assert len(choose_examples(probability, np.zeros_like(labelled), 9)) == 4


def test_statistics_of_maps():
    flat = map_statistics(np.full((4, 4), 2, np.float32))
    assert (flat.mean, flat.maximum, flat.zero_share) == (2, 2, 0)
    assert flat.entropy == pytest.approx(1)
    single = np.zeros((4, 4), np.float32)
    single[1, 2] = 8
    assert dataclasses.astuple(map_statistics(single)) == (0.5, 8, 15 / 16, 0)
    half = np.zeros((4, 4), np.float32)
    half[:2] = 3
    assert map_statistics(half).entropy == pytest.approx(np.log(8) / np.log(16))
    empty = map_statistics(np.zeros((4, 4), np.float32))
    assert (empty.zero_share, empty.entropy) == (1, None)
    both = mean_statistics([flat, empty])
    assert both is not None and (both.mean, both.entropy) == (1, pytest.approx(1))
    assert mean_statistics([]) is None


def test_the_mean_heatmap_counts_findings_alike():
    mean = MeanHeatmap()
    image = np.full((8, 8), 100, np.uint8)
    mean.add(np.array([[100, 50]], np.float32), image)
    mean.add(np.array([[0.5, 1]], np.float32), image + np.uint8(20))
    np.testing.assert_allclose(mean.heat, [[0.75, 0.75]])
    assert mean.image[0, 0] == 110
    with pytest.raises(ValueError, match="empty"):
        mean.add(np.zeros((1, 2), np.float32), image)


def test_a_composite_shows_each_finding_in_its_hue():
    preview = np.full((200, 200), 60, np.uint8)
    heats = [np.zeros((200, 200), np.float32) for _ in range(2)]
    heats[0][20:80, 20:80], heats[1][120:180, 120:180] = 1, 1
    drawn = composite(preview, heats).astype(float)
    for hue, place in ((0, 75), (1, 175)):  # beside the number at the middle
        np.testing.assert_allclose(drawn[place, place], 0.25 * 60 + 0.75 * np.array(CLASS_COLOURS[hue]), atol=1)
    np.testing.assert_array_equal(drawn[100, 100], [60, 60, 60])
    np.testing.assert_array_equal(composite(preview, [])[..., 0], preview)


def test_opacity_is_what_was_asked_for():
    preview, cam = np.zeros((64, 64), np.uint8), np.ones((4, 4), np.float32)
    place = Placement((0.0, 0.0), (2.0, 2.0))
    drawn = [overlay(preview, cam, place, (32, 32), (64, 64), opacity=alpha)[32, 32] for alpha in (0.2, 0.4, 1.0)]
    # One grey level for rounding the mask, one for the colour.
    np.testing.assert_allclose(drawn[0], 0.2 * drawn[2], atol=2)
    np.testing.assert_allclose(drawn[1], 0.4 * drawn[2], atol=2)


def test_every_finding_has_its_file(run, halves, tmp_path):
    out = tmp_path / "out"
    done = run(halves, out)
    rows = rows_of(out / "heatmaps.csv")
    # Images are bright left, right or nowhere in turn; nothing else is predicted.
    expected = [(f"test/{i}", ("Left", "Right")[i % 3]) for i in range(12) if i % 3 < 2]
    assert [(r["image"], r["class"]) for r in rows] == expected
    assert {r["file"] for r in rows} == {p.relative_to(out).as_posix() for p in (out / "heatmaps").rglob("*.jpg")}
    assert not list(out.rglob(".*"))
    for r in rows:
        with Image.open(out / r["file"]) as image:
            image.load()
            assert image.size == (384, 384)
        # The box is in pixels of the stored image, on the half that is bright.
        middle = float(r["box_x"]) + float(r["box_width"]) / 2
        assert (middle < 16) == (r["class"] == "Left")
        assert float(r["probability"]) > 0.5
        assert (r["label"], r["predicted"]) == (("0" if int(r["image"][5:]) % 6 == 0 else "1"), "1")
    assert done.figures["files"] == 8
    assert [(c["class"], c["labelled"], c["predicted"]) for c in done.figures["classes"]] == [
        ("Left", 2, 4),
        ("Right", 4, 4),
        ("Never", 0, 0),
    ]
    hard = rows_of(out / "hard_cases.csv")
    assert {(r["class"], r["list"], r["image"]) for r in hard} == {
        ("Left", "false positive", "test/0"),
        ("Left", "false positive", "test/6"),
    }
    top = [r for r in rows_of(out / "top_cases.csv") if r["class"] == "Right"]
    assert [int(r["rank"]) for r in top] == [1, 2, 3]
    assert sorted((float(r["probability"]) for r in top), reverse=True) == [float(r["probability"]) for r in top]
    for section in done.report.sections:
        for figure in section.figures:
            assert (out / figure.file).read_bytes() == figure.png


def test_all_classes_or_none(run, halves, tmp_path):
    assert run(halves, tmp_path / "all", heatmaps="all").figures["files"] == 12 * 2  # those of Never are empty
    assert len(rows_of(tmp_path / "all" / "heatmaps.csv")) == 12 * 3
    assert run(halves, tmp_path / "none", heatmaps="none").figures["files"] == 0
    assert not (tmp_path / "none" / "heatmaps").exists()
    one = run(halves, tmp_path / "one", classes=("Right",))
    assert {r["class"] for r in rows_of(tmp_path / "one" / "heatmaps.csv")} == {"Right"}
    assert [c["class"] for c in one.figures["classes"]] == ["Right"]


def test_layers_and_other_bundles_stand_side_by_side(run, halves, tmp_path):
    layered = make_bundle(outputs=("cams", "cams.deep"))
    done = run(halves, tmp_path / "out", layered, compare=[make_bundle(top_k=1, path="other.xrt")])
    kinds = sorted(path.stem.rpartition("-")[2] for path in (tmp_path / "out" / "examples").iterdir())
    assert kinds == sorted(["bundles", "composite", "grid", "layers", "opacities"] * 2)
    layers = {row["layer"] for row in done.figures["maps"]}
    assert layers == {"cams, 4 × 4 cells", "cams.deep, 4 × 4 cells"}


def test_top_k_bundles_and_nothing_predicted(run, halves, tmp_path):
    done = run(halves, tmp_path / "top", make_bundle(top_k=1))
    assert done.figures["files"] == 8
    dark = run(halves.subset([2, 5]), tmp_path / "dark")
    assert dark.figures["files"] == 0
    assert "nothing is predicted" in " ".join(dark.report.sections[1].text)
    assert rows_of(tmp_path / "dark" / "heatmaps.csv") == []


def test_unreadable_images_are_listed_and_results_stay_in_line(run, halves, tmp_path):
    table = damage(halves, "test/0")
    done = run(table, tmp_path / "out", allow_unscored=0.1)
    assert done.figures["unscored"] == [{"image": "test/0", "reason": "the file is empty"}]
    assert done.figures["classes"][0]["of these labelled"] == 2
    assert "test/0 (the file is empty)" in done.report.sections[0].text[-1]
    assert "test/0" not in {r["image"] for r in rows_of(tmp_path / "out" / "top_cases.csv")}
    with pytest.raises(DataError, match="1 of 12 images cannot be scored"):
        run(table, tmp_path / "strict", allow_unscored=0)


def test_wrong_use_is_refused(run, halves, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").touch()
    with pytest.raises(UsageError, match="not empty"):
        run(halves, tmp_path / "full")
    with pytest.raises(UsageError, match="opacity α lies above 0 and at most at 1, not 1.5"):
        run(halves, tmp_path / "a", alphas=(0.5, 1.5))
    with pytest.raises(UsageError, match="explains no class 'Hernia'"):
        run(halves, tmp_path / "a", classes=("Hernia",))
    other = dataclasses.replace(halves, classes=("Left", "Right"))
    with pytest.raises(DataError, match="the bundle has Left, Right, Never"):
        run(other, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_class_that_is_asked_for_twice_is_explained_once(run, halves, tmp_path):
    once, twice = (
        run(halves, tmp_path / "a", classes=(NAMES[0],)),
        run(halves, tmp_path / "b", classes=(NAMES[0], NAMES[0])),
    )
    assert twice.figures == once.figures
    files = [figure.file for section in twice.report.sections for figure in section.figures]
    assert len(set(files)) == len(files)


def test_sheets_hold_images_of_any_shape_and_long_names():
    tiles = [Tile(np.zeros((10, 90), np.uint8), ("x" * 200,)), Tile(np.zeros((90, 10, 3), np.uint8), ())]
    png = Sheet("title", [tiles], "note", side=100, bar=("0", "1"), key=[((1, 2, 3), "a class")]).png()
    assert png.startswith(b"\x89PNG")


def command(monkeypatch, *arguments):
    from xrt.runtime.cli.app import main

    monkeypatch.setattr(sys, "argv", ["xrt", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return 0


def test_the_commands_on_phantoms(bundle_path, phantom_folder, tmp_path, monkeypatch, capsys):
    limited = ["--split", "all", "--limit", 6]
    explained = [bundle_path, phantom_folder, "--out", tmp_path / "e", *limited, "--examples", 1, "--top-k", 2]
    assert not command(monkeypatch, "explain", *explained, "--compare", bundle_path, "--json", tmp_path / "e.json")
    printed = capsys.readouterr()
    assert printed.out.startswith("6 images of") and not printed.err
    assert (tmp_path / "e.json").read_bytes() == (tmp_path / "e" / "metrics.json").read_bytes()
    measured = [bundle_path, phantom_folder, "--out", tmp_path / "f", *limited, "--steps", 3]
    assert not command(monkeypatch, "faithfulness", *measured)
    assert "AOPC MoRF, probability" in capsys.readouterr().out
    assert command(monkeypatch, "explain", bundle_path, phantom_folder, "--out", tmp_path / "g", "--alpha", "x") == 2
    assert "--alpha takes numbers" in capsys.readouterr().err
