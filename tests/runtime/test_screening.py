from __future__ import annotations

import csv
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from xrt.runtime import Bundle, Screener, ScreeningOptions
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.decisions import excess, probabilities
from xrt.runtime.errors import UsageError
from xrt.runtime.geometry import Placement
from xrt.runtime.heatmaps.boxes import box_of_map, otsu
from xrt.runtime.heatmaps.overlay import align_map
from xrt.runtime.preprocessing import preprocess
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.triage import triage

SCREENING = ScreeningOptions(batch_size=4, workers=0)
IN_PROCESS = TriageOptions(screening=SCREENING)
RESUMED = TriageOptions(screening=SCREENING, resume=True)


@pytest.fixture
def folder(phantom_folder, tmp_path):
    """Eleven phantoms, one in a sub-folder, and four files that cannot be scored."""
    folder = tmp_path / "incoming"
    (folder / "later").mkdir(parents=True)
    images = sorted((phantom_folder / "images").iterdir())[:11]
    for image in images[:10]:
        shutil.copy(image, folder)
    shutil.copy(images[10], folder / "later" / "10.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(images[0].read_bytes()[:3000])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden").write_text("left out")
    return folder


def rows(out, query="SELECT * FROM image WHERE current ORDER BY path"):
    with sqlite3.connect(out / "results.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


def test_every_file_gets_one_row(bundle, folder, tmp_path):
    out = tmp_path / "out"
    summary = triage(bundle, [folder], out, IN_PROCESS)
    assert dict(summary.counts) == {"ok": 11, "failed": 3}
    assert summary.reasons.total() == 3
    assert summary.reasons["failed: the file is empty"] == 1
    by_path = {row["path"]: row for row in rows(out)}
    assert len(by_path) == 14
    assert by_path["later/10.png"]["status"] == "ok"
    assert by_path["empty.png"]["reason"] == "the file is empty"
    assert "truncated" in by_path["cut.png"]["reason"]
    findings = rows(out, "SELECT * FROM finding")
    assert len(findings) == 11 * 3
    for finding in findings:
        assert bool(finding["heatmap"]) == bool(finding["positive"])
        if finding["heatmap"]:
            assert Image.open(out / finding["heatmap"]).size == (128, 128)
    with (out / "worklist.csv").open() as file:
        worklist = list(csv.DictReader(file))
    urgencies = [float(row["urgency"]) for row in worklist]
    assert urgencies == sorted(urgencies, reverse=True)
    assert len(worklist) == 11
    report = (out / "report.html").read_text()
    assert "Not a medical device" in report
    assert "the file is empty" in report


def test_the_numbers_are_those_of_the_graph(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder / "later" / "10.png"], out, IN_PROCESS)
    pixels = np.asarray(Image.open(folder / "later" / "10.png"))
    image = preprocess(pixels, bundle.manifest.preprocessing)[0][None, None]
    import onnxruntime

    session = onnxruntime.InferenceSession(bundle.read(bundle.variant()))
    (logits,) = session.run(["logits"], {"image": image})
    stored = [row["probability"] for row in rows(out, "SELECT probability FROM finding ORDER BY id")]
    assert stored == pytest.approx(1 / (1 + np.exp(-logits[0].astype(float))), abs=1e-6)


def test_a_second_run_needs_resume_and_repeats_only_failures(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, IN_PROCESS)
    with pytest.raises(UsageError, match="--resume"):
        triage(bundle, [folder], out, IN_PROCESS)
    before = [tuple(row) for row in rows(out, "SELECT id, path, sha256 FROM image WHERE status = 'ok'")]
    assert dict(triage(bundle, [folder], out, RESUMED).counts) == {"unchanged": 11, "failed": 3}
    assert [tuple(row) for row in rows(out, "SELECT id, path, sha256 FROM image WHERE status = 'ok'")] == before


def test_a_changed_file_supersedes_its_row_and_the_old_one_is_kept(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, IN_PROCESS)
    changed = folder / "later" / "10.png"
    original = changed.read_bytes()
    shutil.copy(next(folder.glob("0*.png")), changed)
    assert triage(bundle, [folder], out, RESUMED).counts["ok"] == 1
    history = rows(out, "SELECT sha256, current FROM image WHERE path = 'later/10.png' ORDER BY id")
    assert [row["current"] for row in history] == [0, 1]
    changed.write_bytes(original)
    triage(bundle, [folder], out, RESUMED)
    history = rows(out, "SELECT sha256, current FROM image WHERE path = 'later/10.png' ORDER BY id")
    assert [row["current"] for row in history] == [1, 0]  # no (path, hash) twice


def test_another_bundles_results_are_not_mixed_in(bundle, compact_source, folder, tmp_path):
    from dataclasses import replace

    from xrt.export.publish import publish_source

    out = tmp_path / "out"
    triage(bundle, [folder], out, IN_PROCESS)
    other = publish_source(replace(compact_source, name="other"), tmp_path / "other.xrt").bundle
    with pytest.raises(UsageError, match="another bundle"):
        triage(other, [folder], out, RESUMED)


def test_one_writer_at_a_time(bundle, folder, tmp_path):
    from xrt.runtime.screening.store import ResultsStore

    out = tmp_path / "out"
    with ResultsStore(out), pytest.raises(UsageError, match="another xrt is writing"):
        triage(bundle, [folder], out, RESUMED)


def test_paths_can_be_redacted(bundle, folder, tmp_path):
    out = tmp_path / "out"
    options = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True)
    triage(bundle, [folder], out, options)
    text = (out / "report.html").read_text() + (out / "worklist.csv").read_text()
    text += str([tuple(row) for row in rows(out)])
    assert "10.png" not in text
    assert "incoming" not in text
    resumed = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True, resume=True)
    assert triage(bundle, [folder], out, resumed).counts["unchanged"] == 11


def test_a_killed_run_is_finished_by_resume(bundle_path, phantom_folder, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", "triage", str(bundle_path)]
    command += [str(phantom_folder / "images"), "--out", str(out), "--batch-size", "1", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not (out / "heatmaps").exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    count = len(rows(out))
    bundle = Bundle.open(bundle_path)
    summary = triage(bundle, [phantom_folder / "images"], out, RESUMED)
    assert bundle.manifest.name == "compact"
    assert summary.counts["unchanged"] == count
    assert len(rows(out)) == 40
    for finding in rows(out, "SELECT heatmap FROM finding WHERE heatmap != ''"):
        Image.open(out / finding["heatmap"]).load()


def test_the_screener_gives_results_in_order(bundle, phantom_folder):
    paths = sorted((phantom_folder / "images").iterdir())[:7]
    with Screener(bundle, options=ScreeningOptions(batch_size=3, workers=0)) as screener:
        results = list(screener.screen([*paths[:2], phantom_folder / "nothing.png", *paths[2:]]))
    assert [r.key for r in results] == [*paths[:2], phantom_folder / "nothing.png", *paths[2:]]
    assert results[2].status == "failed"
    assert results[2].reason == "no such file"
    assert set(results[0].maps) == {"Mass", "Nodule", "No Finding"}
    assert all(f.urgency is None for f in results[0].findings if f.class_name == "No Finding")
    for result in results:
        for finding in result.findings:
            assert (finding.box is not None) <= finding.positive


def test_excess_compares_classes_with_different_thresholds(bundle):
    p = np.array([[0.5, 0.4, 0.75], [1.0, 0.0, 0.25]])
    assert excess(p, bundle.manifest) == pytest.approx(np.array([[0, 0, 0.5], [1, -1, -0.5]]))


def test_probabilities_do_not_overflow(bundle):
    extreme = probabilities(np.array([[-1e4, 1e4, 0]], dtype=np.float32), bundle.manifest)
    assert extreme.tolist() == [[0.0, 1.0, 0.5]]


def test_the_box_is_the_hot_region_in_stored_pixels():
    cam = np.zeros((8, 8), dtype=np.float32)
    cam[2:4, 5:7] = 1
    cam[7, 0] = 0.8  # a second region, not connected: not in the box
    _, placement = preprocess(np.zeros((400, 800), np.uint8), Preprocessing(height=64, width=64))
    box = box_of_map(cam, placement, (64, 64), (400, 800))
    assert box is not None
    assert box.x == pytest.approx(500, abs=40)
    assert box.y == pytest.approx(100, abs=20)
    assert box.width == pytest.approx(200, abs=70)
    assert box.height == pytest.approx(100, abs=35)
    assert box_of_map(np.zeros((8, 8), np.float32), placement, (64, 64), (400, 800)) is None


def test_otsu_splits_two_levels():
    values = np.where(np.arange(100).reshape(10, 10) < 70, 0.1, 0.9).astype(np.float32)
    assert 0.1 < otsu(values) < 0.9


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_the_overlay_lies_where_the_model_looked(fit):
    """One hot cell, brought back to the stored image, peaks where the placement says that the cell is."""
    spec = Preprocessing(height=64, width=64, fit=fit, border_crop=0.1)
    _, placement = preprocess(np.zeros((300, 500), np.uint8), spec)
    cam = np.zeros((8, 8), dtype=np.float32)
    cam[3, 5] = 1
    heat = align_map(cam, placement, (64, 64), (300, 500), (150, 250))
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    expected = placement.to_stored(5.5 * 8, 3.5 * 8)
    assert (2 * (x + 0.5), 2 * (y + 0.5)) == pytest.approx(expected, abs=6)
    assert isinstance(placement, Placement)


def test_every_path_under_the_inputs_is_recorded(bundle, folder, tmp_path):
    """Output beside inputs, links, loops, names that are no UTF-8: every path gets its row, own output none."""
    out = folder / "results"
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "link.png").symlink_to(folder / "later" / "10.png")
    (folder / "elsewhere").symlink_to(folder / "later")
    shutil.copy(folder / "later" / "10.png", os.fsencode(folder) + b"/M\xfcller.png")
    triage(bundle, [folder], out, IN_PROCESS)
    statuses = {row["path"]: row["status"] for row in rows(out)}
    assert statuses["loop.png"] == "failed"
    assert statuses["link.png"] == "ok"
    assert statuses["M\\xfcller.png"] == "ok"
    assert {"later/10.png", "elsewhere/10.png"} & statuses.keys()
    assert not any(path.startswith("results") for path in statuses)
    counts = triage(bundle, [folder], tmp_path / "second", IN_PROCESS).counts
    assert sum(counts.values()) == len(statuses)


def test_redaction_keeps_what_groups_studies(bundle, folder, tmp_path):
    options = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True, study_by="folder")
    triage(bundle, [folder], tmp_path / "out", options)
    assert rows(tmp_path / "out", "SELECT COUNT(*) AS n FROM study")[0]["n"] == 2


def test_a_tiny_image_fails_alone(bundle, folder, tmp_path):
    Image.fromarray(np.zeros((4, 900), np.uint8)).save(folder / "thin.png")
    triage(bundle, [folder], tmp_path / "out", IN_PROCESS)
    reasons = {row["path"]: row["reason"] for row in rows(tmp_path / "out")}
    assert "a radiograph has at least 16 per side" in reasons["thin.png"]


def test_an_image_for_which_the_model_gives_nan_fails_alone(bundle, phantom_folder, monkeypatch):
    from dataclasses import replace

    paths = sorted((phantom_folder / "images").iterdir())[:3]
    chosen = preprocess(np.asarray(Image.open(paths[1])), bundle.manifest.preprocessing)[0]
    with Screener(bundle, options=ScreeningOptions(workers=0)) as screener:
        infer = screener.opened.session.infer

        def poisoned(images, *, cams=True):
            outputs = infer(images, cams=cams)
            logits = outputs.logits.copy()
            logits[[np.array_equal(image[0], chosen) for image in images], 0] = np.nan
            return replace(outputs, logits=logits)

        monkeypatch.setattr(screener.opened.session, "infer", poisoned)
        results = list(screener.screen(paths))
    assert [r.status for r in results] == ["ok", "failed", "ok"]
    assert results[1].reason == "the model gave NaN or infinity for this image"
