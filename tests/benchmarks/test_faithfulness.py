from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from benchmarks.linear import CELLS, SIDE, WEIGHTS, make_bundle, make_opened, make_table
from benchmarks.test_scoring import damage
from sklearn.metrics import auc

from xrt.benchmarks.evaluation import CasePart
from xrt.benchmarks.faithfulness.figures import aopc, area_under
from xrt.benchmarks.faithfulness.measure import measure_faithfulness
from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
from xrt.benchmarks.faithfulness.perturbation_curves import cells_of, heat_order, paths_of, step_counts
from xrt.benchmarks.faithfulness.perturbations import PERTURBATIONS, Strength
from xrt.benchmarks.faithfulness.report import write_faithfulness
from xrt.benchmarks.report import write_report
from xrt.runtime.bundle.manifest import IntendedUse
from xrt.runtime.errors import DataError, UsageError


def run(table, opened=None, **options):
    opened = opened or make_opened(make_bundle())
    return measure_faithfulness(opened, CasePart(table, "all"), FaithfulnessOptions(**options))


def row(result, measure_name, name="all"):
    return next(r for r in result.faithfulness if r.name == name and r.measure == measure_name)


def test_figures_of_a_curve():
    curve = np.array([0.9, 0.5, 0.3, 0.1])
    assert aopc(curve[None]) == pytest.approx((0 + 0.4 + 0.6 + 0.8) / 4)
    share = np.array([0, 0.2, 0.7, 1.0])
    assert area_under(curve[None], share) == pytest.approx(auc(share, curve))


def test_cells_cover_the_input_even_where_they_do_not_divide_it():
    cells = cells_of(10, 7, 3, 3)
    assert set(cells.ravel()) == set(range(9))
    assert np.bincount(cells.ravel()).min() >= 3 * 2
    np.testing.assert_array_equal(cells_of(8, 8, 2, 2)[::4, ::4], [[0, 1], [2, 3]])


def test_steps():
    np.testing.assert_array_equal(step_counts(49, 100), np.arange(50))
    counts = step_counts(49, 16)
    assert (counts[0], counts[-1], len(counts)) == (0, 49, 17)
    assert set(np.diff(counts)) == {3, 4}


def test_the_hottest_come_first_and_ties_at_random():
    cam = np.array([[0, 3], [1, 0]], np.float32)
    orders = [heat_order(cam, np.random.default_rng(seed)) for seed in range(20)]
    assert all(order[1] == 0 and order[2] == 1 for order in orders)
    assert {int(order[0]) for order in orders} == {2, 3}


def test_perturbations(tmp_path):
    image = make_table(tmp_path, 3).pixels(0)
    changed = {name: f(image, Strength(0.1, 8.0), np.random.default_rng(0)) for name, f in PERTURBATIONS.items()}
    middle = (image > 80) & (image < 175)  # where nothing is clipped
    difference = changed["noise"].astype(float)[middle] - image[middle]
    # The deviation of some 300 draws is known to 4 %, their mean to 1.5 grey levels; three times that.
    assert difference.std() == pytest.approx(25.5, rel=0.12)
    assert abs(difference.mean()) < 4.5
    assert np.ptp(changed["mean"]) == 0
    assert changed["mean"][0, 0] == round(image.mean())
    # Half a cell of blur leaves hardly any detail of one pixel.
    assert np.abs(np.diff(changed["blur"].astype(float))).max() < 0.2 * np.abs(np.diff(image.astype(float))).max()


def brute_force(table, result, case, c):
    """The logit along MoRF with the image's mean, cell by cell, from the weights alone."""
    image = table.pixels(case).astype(float)
    side = SIDE // CELLS
    grey = image.reshape(CELLS, side, CELLS, side).mean(axis=(1, 3)).ravel() / 255
    weights, flat = WEIGHTS[c].ravel(), round(image.mean()) / 255
    logits = [float(weights @ grey)]
    for cell in np.argsort(-(weights * grey), kind="stable"):
        grey[cell] = flat
        logits.append(float(weights @ grey))
    return np.array(logits)


def test_aopc_of_a_linear_model_is_known(halves):
    result = run(halves, perturbation="mean", steps=16)
    assert result.counts.tolist() == list(range(17))
    assert len(result.curves) == 8
    drops = []
    for finding in result.curves:
        c = ("Left", "Right").index(finding.name)
        logits = brute_force(halves, result, finding.case, c)
        # float32 sums of about 50
        np.testing.assert_allclose(np.diff(finding.logit[0, 0]), np.diff(logits), atol=2e-4)
        drops.append((logits[0] - logits).mean())
    assert row(result, "AOPC MoRF, logit").map.value == pytest.approx(np.mean(drops), abs=2e-4)


def test_no_order_beats_that_of_the_weights(halves):
    """The map of a linear model is its sum's terms, so its order is the steepest there is."""
    result = run(halves, perturbation="mean", least_first=True, random_orders=3)
    for finding in result.curves:
        morf, lerf = finding.logit[0], finding.logit[1]
        (most, random), (least, random_too) = aopc(morf), aopc(lerf)
        assert most > random and least < random_too
    above = row(result, "AOPC MoRF, probability")
    assert above.difference.low > 0 and above.map.low > above.random.high
    assert row(result, "AUC insertion, probability").difference.low > 0
    assert row(result, "AUC deletion, probability").difference.high < 0
    # Deletion replaces by the mean as well: the same walk as MoRF by `mean`.
    np.testing.assert_array_equal(result.curves[0].probability[0], result.curves[0].probability[2])


def test_both_orders_share_their_noise(halves):
    result = run(halves, sigma=0.3)
    for finding in result.curves:
        np.testing.assert_allclose(finding.probability[:, 0, [0, -1]], finding.probability[:, 1, [0, -1]], atol=1e-12)


def test_batches_of_any_size_give_the_same(halves, tmp_path):
    one, other = (run(halves, steps=5, batch_size=size) for size in (3, 64))
    for a, b in zip(one.curves, other.curves, strict=True):
        np.testing.assert_allclose(a.logit, b.logit, atol=1e-5)
    assert run(halves, steps=5).as_dict() == run(halves, steps=5).as_dict()
    # And a case's walks do not depend on the others.
    alone = run(halves.subset([1]), steps=5)
    np.testing.assert_allclose(alone.curves[0].logit, one.curves[1].logit, atol=1e-5)


def test_batches_are_filled_across_images(halves):
    bundle = make_bundle()
    opened = make_opened(bundle)
    sizes = []
    infer = opened.session.infer

    def recorded(images, *, cams=True):
        sizes.append((len(images), cams))
        return infer(images, cams=cams)

    opened.session.infer = recorded
    run(halves, opened, steps=5, batch_size=32)
    perturbed = [size for size, cams in sizes if not cams]
    assert perturbed[:-1] == [32] * (len(perturbed) - 1)
    assert sum(perturbed) == 8 * 3 * (2 + 3 * 4)


def test_only_correct_findings(halves):
    everything, correct = run(halves, steps=4), run(halves, steps=4, correct_only=True)
    assert (len(everything.curves), len(correct.curves)) == (8, 6)
    assert correct.left_out == {"predicted, but not labelled": 2}
    assert all(finding.case % 6 for finding in correct.curves)


def test_findings_without_a_map_are_counted(halves):
    bundle = make_bundle(top_k=1)
    opened = make_opened(bundle)
    infer = opened.session.infer

    def both(images, *, cams=True):
        outputs = infer(images, cams=cams)
        outputs.logits[:, :2] = np.maximum(outputs.logits[:, :2], 1)
        for maps in outputs.cams.values():
            maps[0] = 0
        return outputs

    opened.session.infer = both
    result = run(halves, opened, steps=4, batch_size=64)
    assert result.left_out == {
        "not among the classes that the graph explains for this image": 12,
        "the map is empty": 1,
    }
    assert len(result.curves) == 11


def test_without_a_finding_no_figure_is_defined(halves, tmp_path):
    result = run(halves.subset([2, 5]), least_first=True)
    assert result.nothing and result.nothing.startswith("no finding to measure in 2 images (none predicted)")
    overall = [row for row in result.faithfulness if row.kind == "all"]
    assert {row.measure for row in overall} >= {
        "AOPC MoRF, probability",
        "AOPC LeRF, logit",
        "AUC deletion, probability",
    }
    assert all((row.count, str(row.map), str(row.difference)) == (0, "not defined", "not defined") for row in overall)
    report = write_report(tmp_path, write_faithfulness(tmp_path, result)).read_text()
    assert "no finding to measure in 2 images" in report and "not defined" in report
    assert json.loads((tmp_path / "metrics.json").read_text())["findings"] == 0
    wrong = run(halves.subset([0, 6]), correct_only=True)
    assert wrong.nothing and "2 left out: predicted, but not labelled" in wrong.nothing


def test_images_that_cannot_be_read_are_no_evidence(halves):
    with pytest.raises(DataError, match="none of 12 images could be scored, the first: the file is empty"):
        run(damage(halves, *(case.key for case in halves.cases)), allow_unscored=1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": 0.0}, "above 0 and at most 1, not 0"),
        ({"steps": 1}, "2 steps or more"),
        ({"random_orders": 0}, "1 random order or more"),
        ({"cams": "cams.layer9"}, "no map output 'cams.layer9'; it has cams"),
    ],
)
def test_wrong_options_are_refused(halves, options, message):
    with pytest.raises(UsageError, match=message):
        run(halves, **options)


def test_maps_against_boxes(halves):
    result = run(halves, steps=4)
    (everything,) = [r for r in result.localisation if r.kind == "all"]
    # Six findings are labelled, each with its brightest cell boxed: the map of a linear model peaks there.
    assert (everything.count, everything.hits.value) == (6, 1.0)
    assert everything.chance.value == pytest.approx(1 / 16, abs=1e-9)
    assert everything.hits_shuffled.value < 1
    assert result.missed == 0


def test_what_is_written(halves, tmp_path):
    (tmp_path / "phantoms.csv").write_text("image,label,contrast\n1,Right,20\n3,Left,90\n")
    result = run(halves, steps=4, least_first=True)
    report = write_faithfulness(tmp_path / "out", result)
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert figures["findings"] == 8
    assert report.sections[0].text[0] == IntendedUse().notice
    assert set(result.provenance["notes"]) <= set(report.sections[0].text)
    rows = list(csv.DictReader((tmp_path / "out" / "faithfulness.csv").open()))
    assert {r["name"] for r in rows if r["kind"] == "contrast"} == {"contrast under 40", "contrast 70 and over"}
    first = row(result, "AOPC MoRF, probability")
    assert float(rows[0]["map"]) == first.map.value and float(rows[0]["map_low"]) == first.map.low
    never = next(r for r in rows if r["name"] == "Never")
    assert (never["count"], never["map"]) == ("0", "")
    curves = list(csv.DictReader((tmp_path / "out" / "curves.csv").open()))
    assert len(curves) == 4 * 2 * 5
    assert [s.title for s in report.sections] == [
        "Faithfulness",
        "Faithfulness by group",
        "Localisation",
        "Localisation by group",
    ]
    for section in report.sections:
        for figure in section.figures:
            assert (tmp_path / "out" / figure.file).read_bytes() == figure.png


def test_walks_keep_their_ends():
    image = np.full((SIDE, SIDE), 100, np.uint8)
    paths = paths_of(image, "noise", Strength(0.1, 8.0), np.random.default_rng(0), least_first=True)
    assert [path.name for path in paths] == ["MoRF", "LeRF", "deletion", "insertion"]
    assert paths[0].end is paths[1].end
    assert paths[3].end is image
