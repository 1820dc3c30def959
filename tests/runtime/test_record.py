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
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from xrt.runtime._io import image_files
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError, XrtError
from xrt.runtime.geometry import Box
from xrt.runtime.screening.database import SCHEMA_VERSION, connect, transaction
from xrt.runtime.screening.listing import Listing, opened_as
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.redaction import Redaction
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


def test_results_beside_a_data_set_do_not_hide_its_images(bundle, folder, tmp_path):
    before = list(image_files(folder))
    triage(bundle, [folder], folder, replace(PLAIN, heatmaps="all"))
    assert list((folder / "heatmaps").rglob("*.jpg"))
    assert list(image_files(folder)) == before


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


@pytest.mark.parametrize("how", ["redacted", "a level up", "other screenings between"])
def test_content_that_moved_with_its_folder_is_listed_once(bundle, folder, tmp_path, how):
    """Where the old place is not recognised before scoring, its rows are marked as moved after it."""
    out, redact = tmp_path / "out", how == "redacted"
    options = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=redact, resume=True)
    triage(bundle, [folder], out, options)
    if how == "other screenings between":
        (tmp_path / "elsewhere").mkdir()
        shutil.copy(next(folder.iterdir()), tmp_path / "elsewhere" / "copy.png")
        triage(bundle, [tmp_path / "elsewhere"], out, options)
    place = tmp_path / "new" / "in"
    place.parent.mkdir()
    folder.rename(place)
    triage(bundle, [place.parent if how == "a level up" else place], out, options)
    present = rows(out, "SELECT * FROM image WHERE current AND gone = ''")
    copies = how == "other screenings between"
    assert len(present) == 6 + copies  # a copy that is still there counts
    assert len(worklist(out)) == 6 + copies


def test_copies_in_two_folders_that_are_both_there_stay_two(bundle, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    triage(bundle, [folder], tmp_path / "out", RESUMED)
    summary = triage(bundle, [tmp_path / "copy"], tmp_path / "out", RESUMED)
    assert summary.gone == 0
    assert len(worklist(tmp_path / "out")) == 12


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
        (
            {"screening": ScreeningOptions(workers=0, content_checks={"inverted": "reject"})},
            "content-checks was {}, now {'inverted': 'reject'}",
        ),
    ],
)
def test_settings_that_decide_results_cannot_change_on_the_way(bundle, folder, tmp_path, changes, message):
    out = tmp_path / "out"
    triage(bundle, [folder], out, replace(PLAIN, backend="onnxruntime"))
    with pytest.raises(UsageError, match=f"was begun with other settings .*{message}"):
        triage(bundle, [folder], out, replace(RESUMED, **{"backend": "onnxruntime", **changes}))


def test_settings_of_an_earlier_version_count_under_their_new_names(bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, PLAIN)
    with sqlite3.connect(out / "results.db") as db:
        db.execute("UPDATE run SET settings = replace(settings, 'skip_body_part_check', 'any_body_part')")
    triage(bundle, [folder], out, RESUMED)
    with sqlite3.connect(out / "results.db") as db:
        db.execute("""UPDATE run SET settings = replace(settings, '"any_body_part": false', '"any_body_part": true')""")
        db.execute("DELETE FROM run WHERE id > 1")
    with pytest.raises(UsageError, match="skip-body-part-check was True, now False"):
        triage(bundle, [folder], out, RESUMED)


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


def test_a_run_over_other_files_does_not_make_up_for_one_that_was_stopped(bundle, folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    shutil.copy(next(folder.iterdir()), other / "a.png")
    asked = []
    triage(bundle, [folder], out, PLAIN, stop=lambda: asked.append(1) or ("SIGTERM" if len(asked) > 3 else ""))
    triage(bundle, [other], out, RESUMED)
    assert worklist(out)[0]["notes"] == "run 1: interrupted (SIGTERM): 3 of 6 files"
    assert "Incomplete" in (out / "report.html").read_text()
    triage(bundle, [tmp_path], out, RESUMED)  # the folder around both
    assert worklist(out)[0]["study"] != "INCOMPLETE"


def test_a_run_is_finished_last_of_all(bundle, folder, tmp_path, monkeypatch):
    from xrt.runtime.screening import run

    write = run.write_report

    def full(db, path, *, incomplete=""):
        if not incomplete:
            raise OSError(28, "No space left on device")
        write(db, path, incomplete=incomplete)

    monkeypatch.setattr(run, "write_report", full)
    with pytest.raises(OSError, match="No space"):
        triage(bundle, [folder], tmp_path / "out", PLAIN)
    assert rows(tmp_path / "out", "SELECT finished FROM run")[0]["finished"] is None
    assert worklist(tmp_path / "out")[0]["study"] != "INCOMPLETE"


def test_the_worklist_of_a_run_that_is_killed_says_so(bundle_path, bundle, folder, tmp_path):
    out = tmp_path / "out"
    triage(bundle, [folder], out, RESUMED)
    assert worklist(out)[0]["study"] != "INCOMPLETE"
    for number in range(400):
        shutil.copy(sorted(folder.iterdir())[number % 6], folder / f"more-{number}.png")
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", "triage", str(bundle_path)]
    process = subprocess.Popen([*command, str(folder), "--out", str(out), "--workers", "1", "--resume"])
    while "Incomplete" not in (out / "report.html").read_text():
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(rows(out, "SELECT * FROM run")) == 2
    assert worklist(out)[0]["study"] == "INCOMPLETE"


def test_heatmaps_that_cannot_be_drawn_cost_no_row(bundle, folder, tmp_path, monkeypatch):
    from concurrent.futures import Future

    from xrt.runtime.imaging.workers import WorkerDied
    from xrt.runtime.screening.screener import Screener

    def dies(self, function, *args):
        future = Future()
        future.set_exception(WorkerDied())
        return future

    monkeypatch.setattr(Screener, "in_background", dies)
    options = TriageOptions(screening=ScreeningOptions(workers=0), heatmaps="all")
    assert triage(bundle, [folder], tmp_path / "out", options).counts == {"ok": 6}
    assert all("heatmaps could not be drawn" in row["notes"] for row in rows(tmp_path / "out"))
    assert not rows(tmp_path / "out", "SELECT * FROM finding WHERE heatmap != ''")


def test_the_command_line_says_what_it_left_out(bundle_path, folder, tmp_path, xrt, capsys):
    (folder / ".hidden").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"")
    assert xrt("triage", bundle_path, folder, "--out", tmp_path / "out", "--workers", 0) == 0
    assert "listed 6, left out 2: 1 hidden, 1 of the operating system or a viewer" in capsys.readouterr().out
    (tmp_path / "nothing").mkdir()
    assert xrt("triage", bundle_path, tmp_path / "nothing", "--out", tmp_path / "empty", "--workers", 0) == 0
    assert "nothing was screened" in capsys.readouterr().out


def test_the_report_shows_every_run_and_no_markup_of_names(bundle, folder, tmp_path):
    (folder / "a\u202egnp.<b>x.png").write_bytes(next(folder.iterdir()).read_bytes())
    triage(bundle, [folder], tmp_path / "out", PLAIN)
    triage(bundle, [folder], tmp_path / "out", RESUMED)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "\u202e" not in page
    assert "<b>x" not in page
    backend = rows(tmp_path / "out", "SELECT backend, backend_version FROM run")[0]
    assert page.count(f"<td>{backend['backend']} {backend['backend_version']}</td>") == 2


def test_a_turned_file_has_its_box_where_it_is_stored(bundle, folder, tmp_path):
    from xrt.runtime.imaging.orientation import of_exif

    pixels = Image.open(sorted(folder.iterdir())[0]).convert("L")
    files = tmp_path / "turned"
    files.mkdir()
    pixels.save(files / "upright.png")
    exif = Image.Exif()
    exif[274] = 6
    pixels.transpose(Image.Transpose.ROTATE_90).save(files / "turned.png", exif=exif)
    triage(bundle, [files], tmp_path / "out", PLAIN)
    query = "SELECT path, class, box_x, box_y, box_width, box_height FROM finding JOIN image ON image.id = image_id"
    boxes = {(row[0], row[1]): tuple(row)[2:] for row in rows(tmp_path / "out", f"{query} WHERE box_x NOTNULL")}
    upright = {name: box for (path, name), box in boxes.items() if path == "upright.png"}
    assert upright
    for name, box in upright.items():
        stored = of_exif(6).to_stored(Box(*box), (pixels.height, pixels.width))
        assert boxes["turned.png", name] == pytest.approx(tuple(stored), abs=1e-3)


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


def test_who_holds_the_database_is_said_and_not_waited_for_without_end(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("xrt.runtime.screening.database._ATTEMPT_SECONDS", 0.05)
    monkeypatch.setattr("xrt.runtime.screening.database._LOCKED_SECONDS", 0.3)
    db = connect(tmp_path / "results.db")
    with closing(sqlite3.connect(tmp_path / "results.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(XrtError, match="has held results.db"), transaction(db):
            pass
    assert "another process holds results.db: waiting for it" in caplog.text


def test_a_foreign_database_keeps_its_journal(tmp_path):
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE other (id)")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.read_bytes()
    with pytest.raises(XrtError, match="something else"):
        connect(path)
    assert path.read_bytes() == before


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


AWKWARD = ["a_b.png", "a-b.png", "a_.png", "a-.png", "a.png", "a_b.PNG", "a_b.jpg", "a b.png", "a_b_c.png"]


def test_no_two_paths_have_one_pseudonym(tmp_path):
    redact = Redaction(tmp_path)
    paths = [f"{folder}{name}" for folder in ("", "x/", "x_y/", "x-y/", "x/y/") for name in AWKWARD]
    assert len({redact(path) for path in paths}) == len(paths)
    assert Redaction(tmp_path)("x/a_b.png") == redact("x/a_b.png")
    for path in paths:
        assert redact(path).startswith(f"{redact.folder(str(Path(path).parent))}/" if "/" in path else "")
    assert redact("a_1.png").rpartition("_")[0] == redact("a_2.png").rpartition("_")[0]  # one study by its stem
    (tmp_path / ".redaction-id").write_text("0123")
    with pytest.raises(XrtError, match="earlier version"):
        Redaction(tmp_path)


def test_redacted_files_that_differ_by_a_separator_stay_apart(bundle, phantom_folder, tmp_path):
    (tmp_path / "in").mkdir()
    for name, file in zip(AWKWARD[:4], sorted((phantom_folder / "images").iterdir()), strict=False):
        shutil.copy(file, tmp_path / "in" / name)
    options = TriageOptions(screening=ScreeningOptions(workers=0), redact_paths=True)
    triage(bundle, [tmp_path / "in"], tmp_path / "out", options)
    assert len(rows(tmp_path / "out", "SELECT * FROM image WHERE current")) == 4
    assert len(worklist(tmp_path / "out")) == 4


def test_a_folder_that_was_open_to_others_is_closed(bundle, folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o755)
    triage(bundle, [folder], out, PLAIN)
    assert out.stat().st_mode & 0o777 == 0o750


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
