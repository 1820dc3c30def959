"""Watched folders and events: files that arrive slowly, change, go and return; commands that fail."""

from __future__ import annotations

import io
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.listing import Listing
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.triage import triage
from xrt.runtime.screening.watch import Watcher, WatchOptions

QUICK = WatchOptions(interval=0.2, settle=0.3)
RECEIVER = """
import json, sys, pathlib
event = json.load(sys.stdin)
assert event["key"] == sys.argv[-1]
flaky = pathlib.Path(sys.argv[1] + ".fail")
if flaky.exists():
    flaky.unlink()
    sys.exit("not now")
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(event) + "\\n")
"""


def rows(out, query="SELECT * FROM image"):
    with sqlite3.connect(out / "results.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


@pytest.fixture
def images(phantom_folder):
    return [file.read_bytes() for file in sorted((phantom_folder / "images").iterdir())[:8]]


@pytest.fixture
def inbox(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def receiver(tmp_path):
    script = tmp_path / "receiver.py"
    script.write_text(RECEIVER)
    return (sys.executable, str(script), str(tmp_path / "events"))


def events(tmp_path):
    file = tmp_path / "events"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def watching(bundle_path, inbox, out, until, **options):
    """Watch until the condition holds (asked often), then stop."""
    started = time.monotonic()

    def stop():
        if until():
            return "SIGTERM"
        assert time.monotonic() - started < 90, "what was waited for did not come"
        return ""

    settings = TriageOptions(screening=ScreeningOptions(workers=0), watch=QUICK, **options)
    return triage(Bundle.open(bundle_path), [inbox], out, settings, stop=stop)


def has_rows(out, count, where="current AND gone = ''"):
    def check():
        try:
            return rows(out, f"SELECT COUNT(*) AS n FROM image WHERE {where}")[0]["n"] == count
        except sqlite3.Error:
            return False

    return check


def watcher_of(inbox, out, options=QUICK):
    listing = Listing([inbox], out)
    return Watcher(listing, [inbox], options)


def scan_until(watcher, seconds=0.9):
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        found += [file.path for file in watcher.due()]
        watcher.wait(0.05)
    return found


def test_a_file_that_grows_is_waited_for(inbox, tmp_path, images):
    with watcher_of(inbox, tmp_path / "out") as watcher:
        with (inbox / "slow.png").open("wb") as file:
            for start in range(0, len(images[0]), 1200):
                file.write(images[0][start : start + 1200])
                file.flush()
                assert scan_until(watcher, 0.12) == []
        assert scan_until(watcher) == ["slow.png"]
        assert scan_until(watcher, 0.5) == []
        (inbox / "slow.png").write_bytes(images[1])
        assert scan_until(watcher) == ["slow.png"]


def test_a_folder_that_goes_and_returns_costs_nothing(inbox, tmp_path, images):
    for number, data in enumerate(images):
        (inbox / f"{number}.png").write_bytes(data)
    with watcher_of(inbox, tmp_path / "out") as watcher:
        assert len(scan_until(watcher)) == 8
        inbox.rename(tmp_path / "away")
        assert scan_until(watcher) == []
        assert watcher.away == [inbox]
        assert watcher.take_gone() == {}
        inbox.mkdir()  # mounted, and still empty
        assert scan_until(watcher, 0.6) == []
        assert watcher.take_gone() == {}
        inbox.rmdir()
        (tmp_path / "away").rename(inbox)
        assert scan_until(watcher) == []
        assert watcher.away == []
        (inbox / "3.png").unlink()
        scan_until(watcher)
        assert [path for _, path in watcher.take_gone()] == ["3.png"]


def test_files_are_screened_as_they_arrive(bundle_path, inbox, tmp_path, images):
    out = tmp_path / "out"
    (inbox / "sub").mkdir()
    (inbox / ".hidden").write_bytes(b"")

    def bring():
        for number, data in enumerate(images):
            (inbox / ("sub" if number % 2 else ".") / f"{number}.png").write_bytes(data)
            time.sleep(0.1)

    thread = threading.Thread(target=bring)
    thread.start()
    summary = watching(bundle_path, inbox, out, has_rows(out, 8))
    thread.join()
    assert summary.counts["ok"] == 8
    health = json.loads((out / "health.json").read_text())
    assert (health["state"], health["reason"], health["recorded"]) == ("stopped", "SIGTERM", 8)
    run = rows(out, "SELECT * FROM run")[0]
    assert run["finished"]
    assert (run["listed"], json.loads(run["left_out"])) == (8, {"hidden": 1})
    assert "INCOMPLETE" not in (out / "worklist.csv").read_text()
    # Started again it goes on: what changed in between is noticed, what did not is not scored again.
    (inbox / "0.png").unlink()
    summary = watching(bundle_path, inbox, out, has_rows(out, 1, "gone = 'removed'"))
    assert summary.counts["ok"] == 0


def test_a_folder_that_goes_before_it_is_read_is_read_when_it_returns(
    bundle_path, inbox, tmp_path, images, monkeypatch
):
    """Handed out, then away: the file must not be left `failed`, since nothing about it will change again."""
    from xrt.runtime.imaging import load, pool

    out, moved = tmp_path / "out", []

    def away(path, options, known="", preview=True):
        if not moved:
            moved.append(path)
            inbox.rename(tmp_path / "away")
            result = load.load_radiograph(path, options, known, preview)
            (tmp_path / "away").rename(inbox)
            assert result.reason == "no such file"
            return result
        return load.load_radiograph(path, options, known, preview)

    (inbox / "a.png").write_bytes(images[0])
    monkeypatch.setattr(pool, "load_radiograph", away)
    summary = watching(bundle_path, inbox, out, has_rows(out, 1, "status = 'ok'"))
    assert summary.counts == {"ok": 1}
    assert [row["status"] for row in rows(out)] == ["ok"]


def test_a_file_that_goes_while_it_is_scored_is_marked(bundle_path, inbox, tmp_path, images, monkeypatch):
    """It is missed by scans before it has a row, and no scan will miss it again."""
    out, watchers = tmp_path / "out", []
    scored, entered = Screener.screen_files, Watcher.__enter__

    def slowly(self, files, *, preview=True):
        for result in scored(self, files, preview=preview):
            (inbox / "a.png").unlink()
            for _ in range(3):
                watchers[0]._next_scan = 0.0
                assert list(watchers[0].due()) == []
            assert list(watchers[0].take_gone()) == [(str(inbox), "a.png")]  # there is no row to mark yet
            yield result

    monkeypatch.setattr(Watcher, "__enter__", lambda self: (watchers.append(self), entered(self))[1])
    monkeypatch.setattr(Screener, "screen_files", slowly)
    (inbox / "a.png").write_bytes(images[0])
    (inbox / "sub").mkdir()  # an empty folder would be taken for one that is away
    watching(bundle_path, inbox, out, has_rows(out, 1, "gone = 'removed'"))


def test_a_file_that_cannot_be_read_is_recorded_in_the_end(bundle_path, inbox, tmp_path):
    (inbox / "empty.png").write_bytes(b"")
    summary = watching(bundle_path, inbox, tmp_path / "out", has_rows(tmp_path / "out", 1))
    assert summary.counts == {"failed": 1}


def test_a_folder_that_is_away_is_named_by_its_pseudonym(bundle_path, tmp_path, images, monkeypatch):
    inbox, out = tmp_path / "ward of Jane Doe", tmp_path / "out"
    inbox.mkdir()
    (inbox / "a.png").write_bytes(images[0])
    monkeypatch.setattr("xrt.runtime.screening.health._EVERY", 0.0)
    seen = []

    def until():
        if has_rows(out, 1)() and inbox.exists():
            inbox.rename(tmp_path / "away")
        health = json.loads((out / "health.json").read_text()) if (out / "health.json").exists() else {}
        seen.append(health.get("away"))
        return bool(seen[-1])

    watching(bundle_path, inbox, out, until, redact_paths=True)
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    assert b"Jane" not in everything


def test_only_folders_are_watched(bundle_path, inbox, images, tmp_path):
    (inbox / "a.png").write_bytes(images[0])
    options = TriageOptions(screening=ScreeningOptions(workers=0), watch=QUICK)
    with pytest.raises(UsageError, match="only folders can be watched"):
        triage(Bundle.open(bundle_path), [inbox / "a.png"], tmp_path / "out", options)


def test_every_positive_is_told_once_though_the_command_fails(bundle_path, inbox, tmp_path, images, receiver):
    for number, data in enumerate(images):
        (inbox / f"{number}.png").write_bytes(data)
    (tmp_path / "events.fail").write_text("")
    out = tmp_path / "out"
    options = TriageOptions(screening=ScreeningOptions(workers=0), on_positive=receiver)
    summary = triage(Bundle.open(bundle_path), [inbox], out, options)
    positive = {row["sha256"] for row in rows(out, "SELECT sha256 FROM image JOIN finding ON image.id = image_id"
                                                  " WHERE positive")}  # fmt: skip
    told = events(tmp_path)
    assert positive
    assert summary.undelivered == 0
    assert sorted(event["sha256"] for event in told) == sorted(positive)
    assert len({event["key"] for event in told}) == len(told)
    attempts = rows(out, "SELECT attempts, last_error, delivered FROM outbox")
    assert {row["attempts"] for row in attempts} == {1, 2}
    assert all(row["delivered"] for row in attempts)


def test_what_was_not_taken_is_told_by_the_next_run(bundle_path, inbox, tmp_path, images, receiver, monkeypatch):
    monkeypatch.setattr("xrt.runtime.screening.run._LAST_DELIVERIES", 0.5)
    for number, data in enumerate(images):
        (inbox / f"{number}.png").write_bytes(data)
    out, bundle = tmp_path / "out", Bundle.open(bundle_path)
    screening = ScreeningOptions(workers=0)
    absent = TriageOptions(screening=screening, on_positive=("/no/such/command",))
    left = triage(bundle, [inbox], out, absent).undelivered
    assert left
    assert "cannot be started" in rows(out, "SELECT last_error FROM outbox")[0]["last_error"]
    monkeypatch.setattr("xrt.runtime.screening.run._LAST_DELIVERIES", 30)
    triage(bundle, [inbox], out, TriageOptions(screening=screening, on_positive=receiver, resume=True))
    assert len(events(tmp_path)) == left


def test_no_shell_runs_the_command(bundle_path, inbox, tmp_path, images, xrt):
    (inbox / "a; touch pwned.png").write_bytes(images[0])
    (inbox / "$(touch pwned).png").write_bytes(images[1])
    command = f"{sys.executable} -c pass '; touch {tmp_path}/pwned' $(touch {tmp_path}/pwned)"
    assert xrt("triage", bundle_path, inbox, "--out", tmp_path / "out", "--workers", 0, "--on-positive", command) == 0
    assert not (tmp_path / "pwned").exists()


def test_systemd_is_told(bundle_path, inbox, tmp_path, images, monkeypatch):
    (inbox / "a.png").write_bytes(images[0])
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        watching(bundle_path, inbox, tmp_path / "out", has_rows(tmp_path / "out", 1))
        said = [listener.recv(100) for _ in range(3)]
    assert said == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_busy_inbox(bundle_path, tmp_path, images, receiver, count):
    """Files come slowly, in random order, some in pieces; some are replaced, renamed, removed; the folder goes away.

    At the end one current row for each path, of the final content, and one event for each positive row of it.
    """
    rng, inbox, out = random.Random(4), tmp_path / "in", tmp_path / "out"
    inbox.mkdir()
    command = [sys.executable, "-c", "from xrt.runtime.cli.app import main; main()", "triage", str(bundle_path)]
    command += [str(inbox), "--out", str(out), "--watch", "--interval", "0.5", "--settle", "0.5", "--workers", "1"]
    command += ["--on-positive", " ".join(receiver)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    pixels = [np.asarray(Image.open(io.BytesIO(data))) for data in images]

    def picture(number):
        buffer = io.BytesIO()
        Image.fromarray(np.roll(pixels[number % 8], number // 8 + 1, axis=1)).save(buffer, "PNG")
        return buffer.getvalue()

    final = {}
    try:
        for number in rng.sample(range(count), count):
            data, name = picture(number), f"{number}.png"
            if number % 7 == 0:
                with (inbox / name).open("wb") as file:
                    for start in range(0, len(data), 1500):
                        file.write(data[start : start + 1500])
                        file.flush()
                        time.sleep(0.02)
            else:
                (inbox / name).write_bytes(data)
            final[name] = data
            time.sleep(0.002)
            if number == count // 2:
                time.sleep(2)
                inbox.rename(tmp_path / "away")
                time.sleep(1.5)
                (tmp_path / "away").rename(inbox)
        time.sleep(2)
        for number in range(0, count, 5):
            name = f"{number}.png"
            if number % 3 == 0:
                final[name] = picture(number + 10 * count)
                (inbox / name).write_bytes(final[name])
            elif number % 3 == 1:
                (inbox / name).rename(inbox / f"renamed-{name}")
                final[f"renamed-{name}"] = final.pop(name)
            else:
                (inbox / name).unlink()
                del final[name]
        expected = {name: sha256_of(data) for name, data in final.items()}
        until = time.monotonic() + 60 + count / 4
        while time.monotonic() < until:
            here = {row["path"]: row["sha256"] for row in rows(out, "SELECT * FROM image WHERE current AND gone = ''")}
            waiting = rows(out, "SELECT COUNT(*) AS n FROM outbox WHERE delivered IS NULL")[0]["n"]
            if here == expected and not waiting:
                break
            time.sleep(0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert here == expected
    assert process.returncode == 0, errors
    assert len(rows(out, "SELECT root, path, sha256 FROM image GROUP BY root, path, sha256 HAVING COUNT(*) > 1")) == 0
    replaced = {f"{number}.png" for number in range(0, count, 15)}
    assert {row["path"] for row in rows(out, "SELECT path FROM image WHERE NOT current")} == replaced
    told = {}
    for event in events(tmp_path):
        told.setdefault(event["key"], (event["path"], event["sha256"]))
        assert told[event["key"]] == (event["path"], event["sha256"])  # no key belongs to two rows
    final_positive = {(row["path"], row["sha256"]) for row in rows(
        out, "SELECT DISTINCT path, sha256 FROM image JOIN finding ON image.id = image_id"
        " WHERE positive AND current AND gone = ''")}  # fmt: skip
    assert final_positive
    assert sorted(pair for pair in told.values() if pair in final_positive) == sorted(final_positive)
    assert not list(out.rglob(".xrt-*"))
    assert list((out / "heatmaps").iterdir())
