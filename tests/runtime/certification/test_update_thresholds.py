"""New decision rules make a new bundle through the gate, or nothing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from edited_bundles import edit_manifest

from xrt.runtime.bundle.manifest import KnownAnswersSpec
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.certification.inputs import ValidationInputs, phantom_inputs
from xrt.runtime.certification.transfer import undecided
from xrt.runtime.certification.update_thresholds import update_thresholds
from xrt.runtime.decisions import positives, probabilities
from xrt.runtime.errors import RefusedByGate, Uncertified, UsageError
from xrt.runtime.session import open_session

RULES = {"thresholds": {"Mass": 0.31, "Nodule": 0.62}, "temperatures": {"Nodule": 1.7}}


@pytest.fixture(scope="module")
def inputs(bundle_path) -> ValidationInputs:
    """Three decisions an image: 330."""
    return phantom_inputs(110, 77, Bundle.open(bundle_path).manifest.preprocessing)


@pytest.fixture(scope="module")
def updated(bundle_path, inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("updated") / "new.xrt"
    publication = update_thresholds(Bundle.open(bundle_path), out, **RULES, inputs=inputs, note="by hand")
    assert publication.refusal is None
    return publication.bundle


def test_the_new_bundle_opens_and_decides_by_the_new_rules(updated, bundle, inputs):
    new, old = updated.manifest, bundle.manifest
    assert [(c.threshold, c.temperature) for c in new.classes] == [(0.31, 1.0), (0.62, 1.7), (0.5, 1.0)]
    assert new.name == "new"
    assert (new.variants, new.known_answers, new.graph) == (old.variants, old.known_answers, old.graph)
    assert bundle.sha256 in new.provenance.notes[-1] and "by hand" in new.provenance.notes[-1]
    with open_session(updated).session as session:
        logits = session.infer(inputs.images).logits
    called = positives(probabilities(logits, new), new)
    np.testing.assert_array_equal(called[:, 1], 1 / (1 + np.exp(-logits[:, 1] / 1.7)) >= 0.62)
    assert (called != positives(probabilities(logits, old), old)).any()


def test_its_certificates_say_what_they_rest_on(updated, bundle):
    before = {c.backend: c for c in bundle.manifest.certificates}
    assert {c.backend for c in updated.manifest.certificates} == set(before)
    for certificate in updated.manifest.certificates:
        assert certificate.decisions_sha256 == updated.manifest.decisions_sha256
        assert certificate.verdict == "passed (synthetic only)"
        assert (certificate.figures["different_images"], certificate.figures["flips"]) == (110, 0.0)
        # One class never comes near its threshold and one seldom does: the other decisions prove nothing.
        assert 110 <= certificate.evidence.decisions < 330
        assert certificate.evidence.reference == before[certificate.backend].evidence.reference
        assert "logits and maps passed before on synthetic" in certificate.evidence.source
        # Not smaller than what was certified: a chain of bundles must not forget it.
        assert certificate.figures["logit_error"] >= before[certificate.backend].figures["logit_error"]


def test_what_is_nearer_to_a_threshold_than_the_certified_error_is_undecided(updated):
    manifest = updated.manifest
    place = np.float32(1.7 * np.log(0.62 / 0.38))
    logits = np.array([[0, place + 1e-4, 5], [0, place + 3e-3, 5]], dtype=np.float32)
    assert undecided(logits, 1e-3, manifest).tolist() == [[False, True, False], [False, False, False]]
    never = manifest.model_copy(
        update={"classes": tuple(c.model_copy(update={"threshold": None}) for c in manifest.classes)}
    )
    assert not undecided(logits, 1e3, never).any()
    softmax = manifest.model_copy(update={"task": "multiclass"})
    assert undecided(np.array([[1, 1.0005, 0], [1, 2, 0]], dtype=np.float32), 1e-3, softmax).tolist() == [True, False]


def test_a_threshold_on_top_of_a_score_is_refused(bundle, inputs, tmp_path):
    with open_session(bundle).session as session:
        logits = session.infer(inputs.images).logits
    on_top = float(probabilities(logits, bundle.manifest)[5, 0])
    with pytest.raises(RefusedByGate, match=r"nothing is written.*could flip, the limit is 0"):
        update_thresholds(
            bundle, tmp_path / "n.xrt", thresholds={"Mass": on_top}, temperatures={}, inputs=inputs, note="on top"
        )
    assert not (tmp_path / "n.xrt").exists()


def test_few_images_are_insufficient_evidence(bundle, inputs, tmp_path):
    few = ValidationInputs(inputs.images[:20], "few", inputs.names[:20])
    with pytest.raises(RefusedByGate, match="60 decisions on different images are insufficient evidence"):
        update_thresholds(bundle, tmp_path / "n.xrt", **RULES, inputs=few, note="few")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"thresholds": {}, "temperatures": {}}, "decides by these very rules already"),
        ({"thresholds": {"Edema": 0.5}, "temperatures": {}}, "has no logit for Edema: it has Mass, Nodule, No Finding"),
        ({"thresholds": {"Mass": 1.5}, "temperatures": {}}, "cannot take these rules"),
        ({"thresholds": {}, "temperatures": {"Mass": 0.0}}, "cannot take these rules"),
    ],
)
def test_rules_that_do_not_fit(bundle, inputs, tmp_path, rules, message):
    with pytest.raises(UsageError, match=message) as error:
        update_thresholds(bundle, tmp_path / "n.xrt", **rules, inputs=inputs, note="")
    assert "\n" not in str(error.value)


def test_what_was_published_by_force_has_no_proof_to_build_on(bundle_path, inputs, tmp_path):
    copy = shutil.copytree(bundle_path, tmp_path / "forced.xrt")

    def force(manifest):
        for certificate in manifest["certificates"]:
            certificate.update(verdict="failed", forced=True, reasons=["flips is 0.2, the limit is 0"])

    edit_manifest(copy, force)
    with pytest.raises(RefusedByGate, match="published by force: there is no proof to build on"):
        update_thresholds(Bundle.open(copy), tmp_path / "n.xrt", **RULES, inputs=inputs, note="")


def test_rules_that_were_edited_are_no_ground(bundle_path, inputs, tmp_path):
    copy = shutil.copytree(bundle_path, tmp_path / "edited.xrt")
    edit_manifest(copy, lambda manifest: manifest["classes"][0].update(threshold=0.9))
    with pytest.raises(Uncertified, match="was changed after"):
        update_thresholds(Bundle.open(copy), tmp_path / "n.xrt", **RULES, inputs=inputs, note="")


def test_known_answers_are_copied_byte_for_byte(updated, bundle):
    spec = updated.manifest.known_answers
    assert isinstance(spec, KnownAnswersSpec)
    assert updated.read(spec) == bundle.read(spec)
