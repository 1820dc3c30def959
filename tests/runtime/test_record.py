"""The record under faults: every file is accounted for, nothing is scored twice, and no reader or kill breaks it."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError, XrtError
from xrt.runtime.screening.database import SCHEMA_VERSION, connect, transaction
from xrt.runtime.screening.listing import Listing, opened_as
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.screener import ScreeningOptions
from xrt.runtime.screening.triage import triage
from xrt.runtime.screening.worklist import harmless

PLAIN = TriageOptions(screening=ScreeningOptions(workers=0))
RESUMED = TriageOptions(screening=ScreeningOptions(workers=0), resume=True)


@pytest.fixture
def bundle(bundle_path):
    return Bundle.open(bundle_path)


@pytest.fixture
def folder(phantom_folder, tmp_path):
    """Six phantoms in a folder of their own."""
    files = sorted((phantom_folder / "images").iterdir())[:6]
    (tmp_path / "in").mkdir()
    for file in files:
        shutil.copy(file, tmp_path / "in" / file.name)
    return tmp_path / "in"


def rows(out, query="SELECT * FROM image"):
    with sqlite3.connect(out / "results.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


def worklist(out):
    with (out / "worklist.csv").open() as file:
        return list(csv.DictReader(file))


def test_another_runs_results_do_not_hide_the_images_beside_them(bundle, folder, tmp_path):
    (folder / "sub").mkdir()
    (folder / "sub" / "results.db").write_bytes(b"left here")
    shutil.copy(next(folder.glob("*.png")), folder / "sub" / "a.png")
    (folder / "sub" / "heatmaps").mkdir()
    shutil.copy(next(folder.glob("*.png")), folder / "sub" / "heatmaps" / "old.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / ".hidden.png").write_bytes(b"x")
    summary = triage(bundle, [folder], tmp_path / "out", PLAIN)
    assert summary.counts == {"ok": 7}
    assert summary.left_out == {
        "results of a screening run": 2,
        "of the operating system or a viewer": 1,
        "hidden": 1,
    }
    (run,) = rows(tmp_path / "out", "SELECT * FROM run")
    assert run["listed"] == 7
    assert json.loads(run["left_out"]) == summary.left_out
    assert "2 (results of a screening run)" in (tmp_path / "out" / "report.html").read_text()


def test_names_that_are_no_text_stay_apart(bundle, folder, tmp_path):
    image = next(folder.glob("*.png")).read_bytes()
    raw = os.fsencode(folder)
    for name in (b"/M\xfcller.png", b"/M\xe4ller.png", b"/M\\xfcller.png"):
        Path(os.fsdecode(raw + name)).write_bytes(image)
    triage(bundle, [folder], tmp_path / "out", PLAIN)
    assert len({row["path"] for row in rows(tmp_path / "out")}) == 9
    redacted = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True)
    triage(bundle, [folder], tmp_path / "redacted", redacted)
    assert len({row["path"] for row in rows(tmp_path / "redacted")}) == 9


def test_one_file_by_two_roots_is_one(bundle, folder, tmp_path):
    summary = triage(bundle, [folder, folder / next(folder.iterdir()).name, folder], tmp_path / "out", PLAIN)
    assert summary.counts == {"ok": 6}
    assert summary.left_out["reached twice"] == 7


@pytest.mark.parametrize("redact", [False, True])
def test_one_file_by_two_roots_in_two_runs_is_one(bundle, folder, tmp_path, redact):
    """A folder, then a folder inside it, then one around it."""
    out = tmp_path / "out"
    (folder / "sub").mkdir()
    inner = [file.rename(folder / "sub" / file.name) for file in sorted(folder.glob("*.png"))[:3]]
    options = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=redact, resume=True)
    assert triage(bundle, [folder], out, options).counts == {"ok": 6}
    inner[0].unlink()
    shutil.copy(inner[1], folder / "sub" / "new.png")
    summary = triage(bundle, [folder / "sub"], out, options)
    assert (summary.counts, summary.gone) == ({"unchanged": 2, "ok": 1}, 1)
    summary = triage(bundle, [tmp_path], out, options)
    assert summary.counts == {"unchanged": 6}
    assert len(rows(out)) == 7
    assert len(rows(out, "SELECT * FROM image WHERE gone = ''")) == 6


def test_a_recorded_path_leads_back_to_its_file(folder, tmp_path):
    awkward = [b"a\\b.png", b"\xff\xfe.png", b"\\xff.png", "umlaut-\u00e4.png".encode(), b"new\nline.png"]
    for name in awkward:
        (folder / os.fsdecode(name)).write_bytes(b"x")
    found = list(Listing([folder], tmp_path / "out"))
    assert len({file.path for file in found}) == 6 + len(awkward)
    assert all(opened_as(file.root) / opened_as(file.path) == file.file for file in found)


def test_links_out_of_the_folder_are_not_followed_unless_asked(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(next(folder.iterdir()), tmp_path / "elsewhere" / "secret.png")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "file.png").symlink_to(tmp_path / "elsewhere" / "secret.png")
    listing = Listing([folder], tmp_path / "out")
    assert len(list(listing)) == 6
    assert listing.left_out == {"a link out of the input folder": 2}
    assert len(list(Listing([folder], tmp_path / "out", follow_links=True))) == 8


def test_removed_and_moved_files_leave_the_worklist(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, PLAIN)
    first, second, *_ = sorted(folder.iterdir())
    first.unlink()
    (folder / "moved").mkdir()
    second.rename(folder / "moved" / second.name)
    summary = triage(bundle, [folder], out, RESUMED)
    assert summary.gone == 2
    gone = {row["path"]: row["gone"] for row in rows(out) if row["gone"]}
    assert gone == {first.name: "removed", second.name: "moved"}
    listed = " ".join(row["files"] for row in worklist(out))
    assert first.name not in listed
    assert f"moved/{second.name}" in listed
    assert len(worklist(out)) == 5
    assert "no longer there" in (out / "report.html").read_text()
    shutil.copy(folder / "moved" / second.name, folder / second.name)  # it is back
    triage(bundle, [folder], out, RESUMED)
    assert {row["path"] for row in rows(out) if row["gone"]} == {first.name}
    assert len(rows(out)) == 7


def test_a_renamed_root_is_recognised(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, PLAIN)
    folder.rename(tmp_path / "remounted")
    summary = triage(bundle, [tmp_path / "remounted"], out, RESUMED)
    assert summary.counts == {"unchanged": 6}
    assert len(rows(out)) == 6
    assert len(worklist(out)) == 6


def test_a_vanished_folder_removes_nothing(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, PLAIN)
    for file in folder.iterdir():
        file.unlink()
    summary = triage(bundle, [folder], out, RESUMED)
    assert (summary.listed, summary.gone) == (0, 0)
    assert len(worklist(out)) == 6


def test_an_empty_folder_is_no_mistake(bundle, tmp_path):
    (tmp_path / "in").mkdir()
    summary = triage(bundle, [tmp_path / "in"], tmp_path / "out", PLAIN)
    assert summary.listed == 0
    assert rows(tmp_path / "out", "SELECT finished FROM run")[0]["finished"]
    with pytest.raises(UsageError, match="there is no file or folder"):
        triage(bundle, [tmp_path / "nothing"], tmp_path / "other", PLAIN)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study_by": "folder"}, "study-by was uid, now folder"),
        ({"heatmaps": "none"}, "heatmaps was positive, now none"),
        ({"redact_paths": True}, "redact-paths was False, now True"),
        (
            {"screening": ScreeningOptions(workers=0, skip_body_part_check=True)},
            "skip-body-part-check was False, now True",
        ),
        ({"backend": "openvino"}, "backend was onnxruntime, now openvino"),
    ],
)
def test_settings_that_decide_results_cannot_change_on_the_way(bundle, folder, tmp_path, changes, message):
    from dataclasses import replace

    out = tmp_path / "out"
    triage(bundle, [folder], out, replace(PLAIN, backend="onnxruntime"))
    with pytest.raises(UsageError, match=f"was begun with other settings .*{message}"):
        triage(bundle, [folder], out, replace(RESUMED, **{"backend": "onnxruntime", **changes}))


def test_a_stopped_run_says_how_far_it_came(bundle, folder, tmp_path):
    out, asked = tmp_path / "out", []

    def stop():
        asked.append(1)
        return "SIGTERM" if len(asked) > 3 else ""

    summary = triage(bundle, [folder], out, PLAIN, stop=stop)
    assert summary.interrupted == "SIGTERM"
    assert summary.counts == {"ok": 3}
    words = "interrupted (SIGTERM): 3 of 6 files"
    assert worklist(out)[0]["study"] == "INCOMPLETE"
    assert worklist(out)[0]["notes"] == words
    assert words in (out / "report.html").read_text()
    (run,) = rows(out, "SELECT finished, interrupted FROM run")
    assert tuple(run) == (None, words)
    assert triage(bundle, [folder], out, RESUMED).counts == {"unchanged": 3, "ok": 3}
    assert worklist(out)[0]["study"] != "INCOMPLETE"
    assert "Incomplete" not in (out / "report.html").read_text()


def test_sigterm_finishes_what_is_under_way(bundle_path, phantom_folder, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for copy in range(40):
        for file in (phantom_folder / "images").iterdir():
            os.link(file, folder / f"{copy}-{file.name}")
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", "triage", str(bundle_path)]
    command += [str(folder), "--out", str(out), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "heatmaps").exists() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    recorded = len(rows(out))
    assert 0 < recorded < 1600
    assert f"interrupted (SIGTERM): {recorded} of 1600 files" in (out / "report.html").read_text()
    assert "--resume goes on" in errors
    assert str(recorded) in output


def test_a_reader_delays_the_writer_and_does_not_stop_it(tmp_path, monkeypatch):
    monkeypatch.setattr("xrt.runtime.screening.database._ATTEMPT_SECONDS", 0.05)
    db = connect(tmp_path / "results.db")
    reader = sqlite3.connect(tmp_path / "results.db", check_same_thread=False)
    with transaction(db):
        db.execute("INSERT INTO study (key, label) VALUES ('a', 'a'), ('b', 'b')")
    cursor = reader.execute("SELECT * FROM study")
    cursor.fetchone()
    threading.Timer(0.5, cursor.close).start()
    with transaction(db):
        db.execute("INSERT INTO study (key, label) VALUES ('c', 'c')")
    assert db.execute("SELECT COUNT(*) FROM study").fetchone()[0] == 3
    reader.close()
    db.close()


def test_what_is_no_results_database_is_not_touched(tmp_path):
    path = tmp_path / "results.db"
    path.write_bytes(b"")
    with pytest.raises(XrtError, match="is empty: it was damaged"):
        connect(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(XrtError, match="a database of something else"):
        connect(path)
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(XrtError, match="cannot be used"):
        connect(path)


def test_a_damaged_database_is_found_on_opening(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, PLAIN)
    data = bytearray((out / "results.db").read_bytes())
    data[-9000:-5000] = os.urandom(4000)
    (out / "results.db").write_bytes(data)
    with pytest.raises(XrtError, match="damaged|cannot be used"):
        triage(bundle, [folder], out, RESUMED)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("\n=1+1", "\\n=1+1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("a.png;=cmd()", "a.png;'=cmd()"),
        ("a; -1", "a; '-1"),
        ("Jos\u202egnp.exe", "Jos\\u202egnp.exe"),
        ("a\x1bb", "a\\x1bb"),
        ("chest-1.png", "chest-1.png"),
    ],
)
def test_cells_that_no_spreadsheet_computes(text, cell):
    assert harmless(text) == cell


def test_planted_links_are_not_followed(bundle, folder, tmp_path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    elsewhere.mkdir()
    out.mkdir()
    (elsewhere / "precious").write_text("kept")
    (out / "worklist.csv").symlink_to(elsewhere / "precious")
    (out / "heatmaps").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a folder for heatmaps is a link"):
        triage(bundle, [folder], out, TriageOptions(screening=ScreeningOptions(workers=0), heatmaps="all"))
    assert (elsewhere / "precious").read_text() == "kept"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_redacted_folders_can_be_handed_out(bundle, folder, tmp_path):
    import numpy as np
    import pydicom
    from runtime.image_files import dicom

    grey = np.asarray(Image.open(next(folder.glob("*.png"))))
    (folder / "a.dcm").write_bytes(dicom(grey, PatientName="Doe^Jane", PatientID="123", AccessionNumber="A77"))
    uid = pydicom.dcmread(folder / "a.dcm").SOPInstanceUID
    out = tmp_path / "out"
    triage(bundle, [folder], out, TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True))
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    for secret in (b"Doe", b"A77", uid.encode(), b"1.2.3#", str(folder).encode(), folder.name.encode() + b"/"):
        assert secret not in everything
    assert (out.stat().st_mode & 0o077) == 0
    keys = {path.name for path in out.iterdir() if path.name.startswith(".redaction")}
    assert keys == {".redaction-id"}


def shape(db):
    """Tables and views with their columns."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
    return {name: {(row[1], row[2]) for row in db.execute(f"PRAGMA table_info({name})")} for name in names}


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_an_earlier_database_is_copied_before_its_schema_changes(tmp_path, version):
    """This version's database without what each later schema added is the earlier one."""
    path, fresh = tmp_path / "results.db", connect(tmp_path / "fresh.db")
    connect(path).close()
    with sqlite3.connect(path) as db:
        db.executescript(
            "DROP TABLE map; DROP TABLE bundle; ALTER TABLE run DROP COLUMN proof; ALTER TABLE run DROP COLUMN roots;"
        )
        if version == 1:
            db.executescript(
                "DROP VIEW worklist; DROP INDEX image_of_study; DROP INDEX image_of_content;"
                "ALTER TABLE image DROP COLUMN gone; ALTER TABLE run DROP COLUMN interrupted;"
                "ALTER TABLE run DROP COLUMN listed; ALTER TABLE run DROP COLUMN left_out;"
                "CREATE VIEW worklist AS SELECT 1;"
            )
        db.execute("INSERT INTO study (key, label) VALUES ('a', 'b')")
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    db = connect(path)
    assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION
    assert shape(db) == shape(fresh)
    assert db.execute("SELECT label FROM study").fetchone()[0] == "b"
    db.close()
    assert (tmp_path / f"results.schema{version}.db").read_bytes()[100:] == before[100:]


def test_what_a_killed_process_left_is_swept(bundle, folder, tmp_path):
    out = tmp_path / "out"
    (out / "heatmaps" / "ab").mkdir(parents=True)
    (out / "heatmaps" / "ab" / ".xrt-0123").write_bytes(b"half a file")
    triage(bundle, [folder], out, PLAIN)
    assert not list(out.rglob(".xrt-*"))


def test_two_patients_with_one_study_uid_stay_apart(bundle, tmp_path, phantom_folder):
    import numpy as np
    from runtime.image_files import dicom

    files = sorted((phantom_folder / "images").iterdir())[:2]
    (tmp_path / "in").mkdir()
    for number, file in enumerate(files):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(dicom(np.asarray(Image.open(file)), PatientID=f"P{number}"))
    shutil.copy(files[0], tmp_path / "in" / "1.2.3")  # a path that looks like the UID
    triage(bundle, [tmp_path / "in"], tmp_path / "out", PLAIN)
    assert len(worklist(tmp_path / "out")) == 3


def table(out, query):
    return [tuple(row) for row in rows(out, query)]


@pytest.mark.slow
def test_fifty_kills_end_where_an_unbroken_run_ends(bundle_path, phantom_folder, tmp_path):
    """SIGKILL at random moments, resumed each time: every column but times, run and rounding is the same."""
    import random

    folder, out, whole = tmp_path / "in", tmp_path / "out", tmp_path / "whole"
    folder.mkdir()
    files = sorted((phantom_folder / "images").iterdir())
    for number in range(2000):
        data = files[number % len(files)].read_bytes()
        # What follows a PNG's end is no part of the picture: as many contents as files.
        (folder / f"{number:04}.png").write_bytes(data + b"%d" % number if number % 97 else data[: len(data) // 2])
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", "triage", str(bundle_path)]
    command += [str(folder), "--workers", "2", "--resume", "--batch-size", "8"]
    started = time.monotonic()
    assert subprocess.run([*command, "--out", str(whole)], capture_output=True).returncode == 3
    seconds = time.monotonic() - started
    rng, kills = random.Random(7), 0
    while kills < 50:
        process = subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            process.wait(rng.uniform(0.2, 1.0) * max(3.0, seconds / 8))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:
            (out / "results.db").unlink()  # it came through: begin anew, the kills are what is tested
    assert subprocess.run([*command, "--out", str(out)], capture_output=True).returncode == 3
    columns = "path, sha256, status, reason, notes, width, height, view, gone, current"
    images = f"SELECT {columns} FROM image ORDER BY path, sha256"
    assert table(out, images) == table(whole, images)
    findings = (
        "SELECT path, class, probability, logit, threshold, positive, heatmap FROM finding JOIN image"
        " ON image.id = image_id ORDER BY path, class"
    )
    for one, other in zip(table(out, findings), table(whole, findings), strict=True):
        assert one[:2] + one[4:] == other[:2] + other[4:]
        assert one[2:4] == pytest.approx(other[2:4], abs=1e-5)
    assert not list(out.rglob(".xrt-*"))
    assert not table(out, "SELECT path, sha256 FROM image GROUP BY root, path, sha256 HAVING COUNT(*) > 1")
    heatmaps = {path.name for path in (whole / "heatmaps").rglob("*.jpg")}
    assert {path.name for path in (out / "heatmaps").rglob("*.jpg")} == heatmaps
    worklists = [(folder / "worklist.csv").read_text() for folder in (out, whole)]
    assert worklists[0] == worklists[1]
