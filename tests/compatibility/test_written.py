"""What the version before wrote is used as if this one had written it: a bundle, an interrupted run, runs of training.

`make.py` says how the files were made.
"""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from compatibility.make import PHANTOMS, ROOT, SETTINGS

WRITTEN = Path(__file__).parent / "written"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """The data set that everything was made from."""
    from xrt.runtime.phantoms import write

    folder = tmp_path_factory.mktemp("written") / "phantoms"
    write(folder, workers=0, **PHANTOMS)
    return folder


@pytest.fixture
def copy(tmp_path):
    """A copy of what was written, to be changed."""

    def of(name: str) -> Path:
        return shutil.copytree(WRITTEN / name, tmp_path / name)

    return of


LATER_EVIDENCE = ("synthetic", "different_images", "auroc", "accepted", "original")


@pytest.fixture
def bundle():
    from xrt.runtime import Bundle

    return Bundle.open(WRITTEN / "compact.xrt")


def test_they_are_small():
    assert sum(file.stat().st_size for file in WRITTEN.rglob("*")) < 300_000


def test_a_bundle_is_opened_with_its_own_certificate(bundle):
    """Or with this machine's, where the back end is of another version than the one that certified."""
    from xrt.runtime import open_session

    with open_session(bundle) as opened:
        assert opened.certificate.passed
        assert opened.warning == (
            "this variant was compared with its model on synthetic phantoms only, not on radiographs; this bundle is "
            "of an earlier version, whose bundle.json has no digest: nothing shows whether it was changed"
        )
        assert not opened.refusals


def test_a_certificate_says_what_it_did_not_measure(bundle):
    unmeasured = bundle.manifest.certificates[0].unmeasured
    assert "radiographs: only synthetic phantoms were asked" in unmeasured
    assert "how many of the images differ in fact" in unmeasured
    assert any(gap.startswith("preprocessing: it was not compared") for gap in unmeasured)


def test_a_bundle_says_the_same_when_it_is_written_again(bundle):
    """The manifest's JSON is what it was, field by field; fields that came later are at what it meant."""
    import json

    before = json.loads((WRITTEN / "compact.xrt" / "bundle.json").read_text())
    after = bundle.manifest.model_dump(mode="json", by_alias=True)
    later = after["preprocessing"].keys() - before["preprocessing"].keys()
    assert {name: after["preprocessing"].pop(name) for name in later} == {"crop": 1.0, "invert": False}
    assert (after.pop("assumed"), after.pop("content_sha256"), after.pop("content_checks")) == ({}, None, {})
    for certificate in after["certificates"]:
        # What it does not say is at what it means: nothing was counted, and phantoms are phantoms.
        assert (certificate.pop("known_answers"), certificate.pop("unproved")) == ({}, [])
        later = {name: certificate["evidence"].pop(name) for name in LATER_EVIDENCE}
        assert later == {"synthetic": True, "different_images": None, "auroc": {}, "accepted": [], "original": None}
        assert certificate.pop("verdict") == "passed (synthetic only)"
        certificate["verdict"] = "passed"
    assert after == before


def test_an_interrupted_screening_is_continued(bundle, copy, phantoms):
    """The images of its first batch keep their results; only the others are scored."""
    from xrt.runtime import ScreeningOptions, TriageOptions, triage

    out, images = copy("results"), phantoms / "images"
    with sqlite3.connect(out / "results.db") as db:
        db.execute("UPDATE image SET root = replace(root, ?, ?)", (ROOT, str(images.resolve())))
        db.execute("UPDATE study SET key = replace(key, ?, ?)", (ROOT, str(images.resolve())))
        finished = dict(db.execute("SELECT path, sha256 FROM image WHERE status = 'ok'"))
        before = db.execute("SELECT image_id, class, logit FROM finding ORDER BY 1, 2").fetchall()
    assert len(finished) == 16
    options = TriageOptions(screening=ScreeningOptions(workers=0), resume=True)
    summary = triage(bundle, [images], out, options)
    assert summary.counts == {"unchanged": 16, "ok": PHANTOMS["count"] - 16}
    with sqlite3.connect(out / "results.db") as db:
        rows = dict(db.execute("SELECT path, sha256 FROM image WHERE status = 'ok'"))
        after = db.execute("SELECT image_id, class, logit FROM finding ORDER BY 1, 2").fetchall()
    assert finished.items() <= rows.items()
    assert len(rows) == PHANTOMS["count"]
    assert set(before) <= set(after)


def test_a_checkpoint_becomes_a_bundle(bundle, tmp_path, phantoms):
    from xrt.export import open_source, publish_source
    from xrt.runtime import open_dataset_for, open_session, score_cases

    publication = publish_source(open_source(str(WRITTEN / "checkpoint")), tmp_path / "again.xrt")
    assert publication.refusal is None
    assert publication.bundle.manifest.classes == bundle.manifest.classes
    assert publication.bundle.manifest.decisions_sha256 == bundle.manifest.decisions_sha256
    logits = []
    for each in (bundle, publication.bundle):
        with open_session(each) as opened:
            logits.append(score_cases(opened, open_dataset_for(each.manifest, phantoms)).logits)
    # One float32 graph and its twin, whose nodes another version of an exporter may order differently.
    np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)


def test_an_unfinished_training_is_finished(copy, phantoms):
    """It ends where the run ended that was not stopped."""
    from safetensors.numpy import load_file

    from xrt.train import fit, load_recipe

    folder = copy("unfinished")
    fit(load_recipe("phantoms", SETTINGS), phantoms, folder, resume=True)
    weights, expected = (load_file(run / "model.safetensors") for run in (folder, WRITTEN / "checkpoint"))
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        # Equal to the bit on one machine; another may sum in another order.
        np.testing.assert_allclose(weights[name], tensor, rtol=1e-3, atol=1e-4, err_msg=name)
