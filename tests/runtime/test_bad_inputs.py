"""Hundreds of bad files among good ones: every one is accounted for, and the good ones are scored as without them."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import time

import numpy as np
import pytest
from runtime.bad_inputs import write_bad_inputs

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.screening.options import TriageOptions
from xrt.runtime.screening.screener import ScreeningOptions
from xrt.runtime.screening.triage import triage

MOST_MEMORY = 3 * 2**30
"""What this process and each of its children may take at most, with a small bundle."""


def rows(out, query):
    with sqlite3.connect(out / "results.db") as db:
        db.row_factory = sqlite3.Row
        return db.execute(query).fetchall()


def probabilities(out):
    query = "SELECT path, class, probability FROM finding JOIN image ON image.id = image_id WHERE status = 'ok'"
    return {(row["path"], row["class"]): row["probability"] for row in rows(out, query)}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_bad_files_among_good_ones(bundle_path, phantom_folder, tmp_path, seed, xrt):
    good, mixed = tmp_path / "good", tmp_path / "mixed"
    good.mkdir()
    mixed.mkdir()
    files = sorted((phantom_folder / "images").iterdir())
    for number in range(200):
        shutil.copy(files[number % len(files)], good / f"good-{number}.png")
        shutil.copy(files[number % len(files)], mixed / f"good-{number}.png")
    bad, random = write_bad_inputs(mixed, seed)
    bad -= 200
    assert bad >= 200
    options = TriageOptions(screening=ScreeningOptions(workers=2), heatmaps="none")
    triage(Bundle.open(bundle_path), [good], tmp_path / "alone", options)
    started = time.monotonic()
    code = xrt("triage", bundle_path, mixed, "--out", tmp_path / "out", "--workers", 2, "--heatmaps", "none")
    assert code == 3
    assert time.monotonic() - started < 240
    recorded = rows(tmp_path / "out", "SELECT path, status, reason FROM image WHERE current")
    assert len(recorded) == 200 + bad
    for row in recorded:
        if row["path"].startswith("good-"):
            assert row["status"] == "ok"
        elif row["path"] not in random:
            assert row["status"] in ("failed", "rejected"), row["path"]
        assert "Doe" not in row["reason"]
        assert row["status"] == "ok" or row["reason"]
    together, alone = probabilities(tmp_path / "out"), probabilities(tmp_path / "alone")
    good_ones = [key for key in together if key[0].startswith("good-")]
    assert sorted(good_ones) == sorted(alone)
    assert np.abs([together[key] - alone[key] for key in alone]).max() < 1e-5
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < MOST_MEMORY
