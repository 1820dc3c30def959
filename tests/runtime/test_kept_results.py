"""What is done with a record afterwards: heatmaps drawn from stored maps, old results removed, events as JSON lines."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading

import numpy as np
import pytest

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.drawing import draw_heatmaps
from xrt.runtime.screening.maps import StoredMaps, pack, unpack
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.retention import purge
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.triage import triage

HERE = ScreeningOptions(workers=0)


@pytest.fixture
def folder(phantom_folder, tmp_path):
    (tmp_path / "in").mkdir()
    for file in sorted((phantom_folder / "images").iterdir())[:6]:
        shutil.copy(file, tmp_path / "in" / file.name)
    return tmp_path / "in"


def rows(out, query="SELECT * FROM image"):
    with sqlite3.connect(out / "results.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


def screened(bundle_path, folder, out, **options):
    return triage(Bundle.open(bundle_path), [folder], out, TriageOptions(screening=HERE, **options))


def age(out, days):
    """Make everything recorded so far older."""
    with sqlite3.connect(out / "results.db") as db:
        for table, column in (("image", "recorded"), ("run", "started"), ("outbox", "delivered")):
            db.execute(f"UPDATE {table} SET {column} = strftime('%Y-%m-%dT%H:%M:%S+00:00', {column}, '-{days} days')")


def test_maps_come_back_as_they_were():
    rng = np.random.default_rng(0)
    maps = {name: rng.gamma(1, 10.0**power, (7, 5)).astype(np.float32) for name, power in (("a", 6), ("b", -9))}
    maps["empty"] = np.zeros((7, 5), np.float32)
    back = unpack(pack(maps))
    assert list(back) == list(maps)
    for name, cam in maps.items():
        assert np.abs(back[name] - cam).max() <= cam.max() * 2**-11
    assert pack({}) is None


def test_every_scored_image_keeps_its_maps(bundle_path, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"none")
    out = tmp_path / "out"
    screened(bundle_path, folder, out, heatmaps="none")
    with Screener(bundle_path, options=HERE) as screener:
        expected = {result.key.name: result.maps for result in screener.screen(sorted(folder.glob("*.png")))}
    stored = rows(
        out, "SELECT path, classes, map.height, map.width, scales, cells FROM image JOIN map ON id = image_id"
    )
    assert {row["path"] for row in stored} == {name for name in expected if name != "broken.png"}
    for row in stored:
        back = unpack(StoredMaps(*row[1:]))
        assert back.keys() == expected[row["path"]].keys()
        for name, cam in expected[row["path"]].items():
            assert np.abs(back[name] - cam).max() <= max(np.abs(cam).max(), 1e-30) * 2**-10


def test_heatmaps_drawn_afterwards_are_those_that_a_run_draws(bundle_path, folder, tmp_path, xrt, capsys):
    at_once, later = tmp_path / "at-once", tmp_path / "later"
    screened(bundle_path, folder, at_once, heatmaps="all")
    screened(bundle_path, folder, later, heatmaps="none")
    assert not (later / "heatmaps").exists()
    assert xrt("draw", later, "--heatmaps", "all", "--workers", 0) == 0
    files = sorted(file.relative_to(at_once) for file in (at_once / "heatmaps").rglob("*.jpg"))
    assert files
    assert files == sorted(file.relative_to(later) for file in (later / "heatmaps").rglob("*.jpg"))
    for file in files:
        first, second = (np.frombuffer((out / file).read_bytes(), np.uint8) for out in (at_once, later))
        assert abs(first.size - second.size) < 0.02 * first.size  # half-precision cells move single levels
    query = "SELECT path, class, heatmap FROM finding JOIN image ON image.id = image_id"
    assert {tuple(row) for row in rows(later, query)} == {tuple(row) for row in rows(at_once, query)}
    assert files[0].as_posix() in (later / "report.html").read_text()


def test_one_image_is_drawn_by_its_name(bundle_path, folder, tmp_path):
    (folder / "ward").mkdir()
    shutil.copy(next(folder.glob("*.png")), folder / "ward" / "odd \\ name.png")
    out = tmp_path / "out"
    screened(bundle_path, folder, out, heatmaps="none")
    summary = draw_heatmaps(out, ["ward/odd \\\\ name.png"], heatmaps="all", workers=0)
    assert summary.images == 1
    assert len(rows(out, "SELECT DISTINCT image_id FROM finding WHERE heatmap != ''")) == 1
    with pytest.raises(UsageError, match="no scored image"):
        draw_heatmaps(out, ["nothing.png"], workers=0)


def test_a_file_that_changed_or_went_is_not_drawn(bundle_path, folder, tmp_path, xrt, capsys):
    out = tmp_path / "out"
    screened(bundle_path, folder, out, heatmaps="none")
    first, second, *_ = sorted(folder.iterdir())
    first.unlink()
    shutil.copy(sorted(folder.iterdir())[-1], second)
    assert xrt("draw", out, "--heatmaps", "all", "--workers", 0) == 3
    said = capsys.readouterr().err
    assert f"{first.name}: no such file" in said
    assert f"{second.name}: the file has changed since it was scored" in said


def test_what_cannot_be_drawn_is_said(bundle_path, folder, tmp_path):
    with pytest.raises(UsageError, match="holds no results"):
        draw_heatmaps(tmp_path / "nowhere")
    screened(bundle_path, folder, tmp_path / "redacted", redact_paths=True)
    with pytest.raises(UsageError, match="pseudonyms"):
        draw_heatmaps(tmp_path / "redacted")
    screened(bundle_path, folder, tmp_path / "old", heatmaps="none")
    with sqlite3.connect(tmp_path / "old" / "results.db") as db:
        db.execute("DELETE FROM bundle")
    with pytest.raises(UsageError, match="earlier version"):
        draw_heatmaps(tmp_path / "old")


def test_old_results_are_removed_and_nothing_else(bundle_path, folder, tmp_path, xrt, capsys):
    out = tmp_path / "out"
    screened(bundle_path, folder, out, heatmaps="all")
    first, second, third, *_ = sorted(folder.iterdir())
    first.unlink()
    shutil.copy(third, second)
    screened(bundle_path, folder, out, heatmaps="all", resume=True)
    age(out, 100)
    secret = next(row["sha256"] for row in rows(out) if row["path"] == first.name)
    (folder / "new.png").write_bytes(b"none")
    screened(bundle_path, folder, out, heatmaps="all", resume=True)
    assert len(rows(out)) == 8
    assert xrt("purge", out, "--older-than", 30, "--dry-run") == 0
    assert "would remove 2 images" in capsys.readouterr().out
    assert len(rows(out)) == 8
    assert xrt("purge", out, "--older-than", 101) == 0
    assert "removed 0 images" in capsys.readouterr().out
    assert xrt("purge", out, "--older-than", 30) == 0
    assert {row["path"] for row in rows(out)} == {file.name for file in folder.iterdir()}
    assert all(row["current"] for row in rows(out))
    named = {row["heatmap"] for row in rows(out, "SELECT heatmap FROM finding WHERE heatmap != ''")}
    assert named == {file.relative_to(out).as_posix() for file in (out / "heatmaps").rglob("*.jpg")}
    assert first.name not in (out / "worklist.csv").read_text() + (out / "report.html").read_text()
    everything = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    assert secret.encode() not in everything
    screened(bundle_path, folder, out, heatmaps="all", resume=True)
    assert len(rows(out)) == 6


@pytest.mark.parametrize(("scope", "left"), [("superseded", 6), ("gone", 5), ("all", 0)])
def test_the_scope_says_which_rows(bundle_path, folder, tmp_path, scope, left):
    out = tmp_path / "out"
    screened(bundle_path, folder, out)
    first, second, third, *_ = sorted(folder.iterdir())
    first.unlink()
    shutil.copy(third, second)
    screened(bundle_path, folder, out, resume=True)
    age(out, 10)
    purge(out, 9, scope=scope)
    assert len(rows(out)) == left
    assert len(rows(out, "SELECT * FROM map")) == left
    assert len(rows(out, "SELECT * FROM run")) == (1 if not left else 2)  # the last one says how the folder was begun
    assert not rows(out, "SELECT * FROM study WHERE id NOT IN (SELECT study_id FROM image)")


def test_undelivered_events_stay(bundle_path, folder, tmp_path):
    out = tmp_path / "out"
    screened(bundle_path, folder, out, on_positive=("true",))
    with sqlite3.connect(out / "results.db") as db:
        db.execute("UPDATE outbox SET delivered = NULL WHERE id = 1")
    age(out, 10)
    assert purge(out, 9, scope="all").events > 0
    assert [row["id"] for row in rows(out, "SELECT * FROM outbox")] == [1]


def test_events_as_json_lines(bundle_path, folder, tmp_path, xrt, capsys):
    (folder / "Jane Doe.png").write_bytes(b"none")
    arguments = "triage", bundle_path, folder, "--out", tmp_path / "out", "--workers", 0
    assert xrt("--log-format", "json", *arguments) == 3
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    by_message = {line["message"]: line for line in lines}
    assert by_message["run started"]["executed"].startswith("model.fp32.onnx on")
    assert by_message["not scored"]["reason"]
    assert by_message["run ended"] | {"ok": 6, "failed": 1, "interrupted": ""} == by_message["run ended"]
    assert all(line["time"].endswith("+00:00") and line["level"] and line["logger"] for line in lines)
    assert "Doe" not in json.dumps(lines)


@pytest.mark.parametrize("link", ["heatmaps", "heatmaps/ab"])
def test_a_purge_follows_no_planted_link(bundle_path, folder, tmp_path, link):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    screened(bundle_path, folder, out, heatmaps="none")
    (elsewhere / "ab").mkdir(parents=True)
    (elsewhere / "ab" / "precious.jpg").write_bytes(b"x")
    (out / link).parent.mkdir(exist_ok=True)
    (out / link).symlink_to(elsewhere if link == "heatmaps" else elsewhere / "ab")
    age(out, 10)
    with pytest.raises(OSError, match="is a link"):
        purge(out, 9, scope="all")
    assert (elsewhere / "ab" / "precious.jpg").exists()
    assert len(rows(out)) == 6


def test_a_purge_waits_for_a_reader(bundle_path, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("xrt.runtime.screening.database._ATTEMPT_SECONDS", 0.05)
    out = tmp_path / "out"
    screened(bundle_path, folder, out)
    age(out, 10)
    reader = sqlite3.connect(out / "results.db", check_same_thread=False)
    cursor = reader.execute("SELECT * FROM image")
    cursor.fetchone()
    threading.Timer(0.5, cursor.close).start()
    purge(out, 9, scope="all")
    assert not rows(out)
    assert "png" not in (out / "worklist.csv").read_text() + (out / "report.html").read_text()
