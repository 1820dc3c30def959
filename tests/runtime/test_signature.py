"""Signatures: who made a bundle, and that nobody changed it since."""

from __future__ import annotations

import json
import shutil

import pytest
from edited_bundles import edit_manifest

from xrt.runtime.bundle import Bundle
from xrt.runtime.bundle.signature import SIGNATURE_NAME, fingerprint, new_key, sign_bundle
from xrt.runtime.errors import CorruptBundle, Untrusted, UsageError


@pytest.fixture
def copy(bundle_path, tmp_path):
    return shutil.copytree(bundle_path, tmp_path / "copy.xrt")


@pytest.fixture
def keys(tmp_path):
    new_key(tmp_path / "a.key", tmp_path / "a.pub")
    new_key(tmp_path / "b.key", tmp_path / "b.pub")
    return tmp_path


def test_a_signed_bundle_is_trusted_by_its_key_alone(copy, keys):
    unsigned = Bundle.open(copy)
    assert unsigned.signature == "unsigned"
    with pytest.raises(Untrusted, match="is not signed"):
        Bundle.open(copy, trust=keys / "a.pub")
    signature = sign_bundle(copy, unsigned.sha256, keys / "a.key")
    assert Bundle.open(copy).signature == f"signed with key {signature.short_key}, not checked"
    assert Bundle.open(copy, trust=keys / "a.pub").signature == f"signed with key {signature.short_key}, checked"
    with pytest.raises(Untrusted, match=r"is not signed by .*b\.pub"):
        Bundle.open(copy, trust=keys / "b.pub")


@pytest.mark.parametrize("change", ["urgency", "population", "statistics", "certificate"])
def test_whatever_is_changed_afterwards_is_seen(copy, keys, change):
    """Urgency, statistics, intended use and certificates decide no number, and yet what is done with them."""
    sign_bundle(copy, Bundle.open(copy).sha256, keys / "a.key")
    file = copy / "bundle.json"
    manifest = json.loads(file.read_text())
    if change == "urgency":
        manifest["classes"][0]["urgency"] = 0.0
    elif change == "population":
        manifest["intended_use"]["population"] = "anybody"
    elif change == "statistics":
        manifest["input_statistics"] = {"mean": [0, 255], "std": [0, 255]}
    else:
        manifest["certificates"][0]["figures"]["logit_error"] = 0.0
    file.write_text(json.dumps(manifest))
    with pytest.raises(CorruptBundle, match=r"bundle\.json was changed after it was written: its digest is that of"):
        Bundle.open(copy)
    # Whoever changes it can make a new digest: that is what the signature is for.
    edit_manifest(copy, lambda _: None)
    assert Bundle.open(copy)
    with pytest.raises(Untrusted, match="or it was changed since; nothing was run"):
        Bundle.open(copy, trust=keys / "a.pub")


def test_a_signature_of_another_bundle_or_purpose_is_none(copy, keys):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    digest = Bundle.open(copy).sha256
    private = load_pem_private_key((keys / "a.key").read_bytes(), None)
    key = fingerprint(private.public_key())
    for signature in (private.sign(digest.encode()), private.sign(b""), b""):
        content = {"algorithm": "Ed25519", "key": key, "signature": signature.hex()}
        (copy / SIGNATURE_NAME).write_text(json.dumps(content))
        with pytest.raises(Untrusted):
            Bundle.open(copy, trust=keys / "a.pub")


MARKUP = json.dumps({"algorithm": "Ed25519", "key": "\x1b[31m<b>", "signature": ""})


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"algorithm": "none", "key": "", "signature": ""}', "x" * 5000, "[" * 4000, MARKUP]
)
def test_a_damaged_signature_is_said(copy, text):
    (copy / SIGNATURE_NAME).write_text(text)
    with pytest.raises(CorruptBundle, match="is no signature .*sign the bundle again"):
        Bundle.open(copy)


def test_keys_are_secret_and_never_overwritten(keys, copy):
    assert (keys / "a.key").stat().st_mode & 0o077 == 0
    with pytest.raises(UsageError, match="a key is never overwritten"):
        new_key(keys / "a.key", keys / "c.pub")
    with pytest.raises(UsageError, match="is no private key"):
        sign_bundle(copy, "0" * 64, keys / "a.pub")
    with pytest.raises(UsageError, match="is no public key"):
        Bundle.open(copy, trust=keys / "a.key")


def test_the_commands(copy, tmp_path, phantom_folder, xrt, capsys):
    assert xrt("sign", copy, "--new-key", tmp_path / "hospital.key") == 0
    assert "signed with key" in capsys.readouterr().out
    incoming = tmp_path / "incoming"
    incoming.mkdir()
    shutil.copy(min((phantom_folder / "images").iterdir()), incoming)
    trusted = ("--trust", tmp_path / "hospital.key.pub")
    assert xrt("triage", copy, incoming, "--out", tmp_path / "a", *trusted) == 0
    assert ", checked</td>" in (tmp_path / "a" / "report.html").read_text()
    assert xrt("sign", "--new-key", tmp_path / "other.key") == 0
    assert xrt("triage", copy, incoming, "--out", tmp_path / "b", "--trust", tmp_path / "other.key.pub") == 1
    assert "is not signed by" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
    assert xrt("sign", copy) == 2


@pytest.mark.parametrize("command", ["benchmark", "evaluate", "explain", "faithfulness", "parity"])
def test_what_measures_a_bundle_trusts_as_screening_does(command, copy, keys, tmp_path, phantom_folder, xrt, capsys):
    """They ran any bundle, whatever key was to be trusted."""
    public = keys / "a.pub"
    options = {"benchmark": [], "parity": ["--images", phantom_folder]}
    cases = options.get(command, [phantom_folder, "--out", tmp_path / "out"])
    assert xrt(command, copy, *cases, "--trust", public) == 1
    assert "is not signed" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.html").exists()
