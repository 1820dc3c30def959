from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from edited_bundles import edit_manifest

from xrt.runtime.bundle import Bundle, KnownAnswers, write_bundle
from xrt.runtime.bundle.manifest import SCHEMA_VERSION, Manifest, Variant
from xrt.runtime.bundle.part import FileName
from xrt.runtime.errors import (
    BundleError,
    CorruptBundle,
    KnownAnswersFailed,
    Uncertified,
    UnsupportedSchema,
    UsageError,
)
from xrt.runtime.session import open_session


@pytest.fixture
def copy(bundle_path, tmp_path):
    return shutil.copytree(bundle_path, tmp_path / "copy.xrt")


def edit(bundle, **changes):
    edit_manifest(bundle, lambda manifest: manifest.update(changes))


def test_the_graph_has_the_inputs_and_outputs_of_the_contract(bundle):
    import onnx

    model = onnx.load_from_string(bundle.read(bundle.variant()))
    image, (logits, cams) = model.graph.input[0], model.graph.output
    sizes = [d.dim_param or d.dim_value for d in image.type.tensor_type.shape.dim]
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert isinstance(sizes[0], str)
    assert sizes[1:] == [1, 64, 64]
    assert [logits.name, cams.name] == ["logits", "cams"]
    assert [d.dim_value for d in cams.type.tensor_type.shape.dim][1:] == [3, 16, 16]
    assert model.ir_version <= 10
    assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [("", 18)]
    assert len(model.graph.input) == 1


def test_known_answers_are_verified_when_a_session_opens(bundle):
    with open_session(bundle).session as session:
        known = bundle.known_answers()
        assert session.infer(known.images).logits == pytest.approx(known.logits, abs=1e-4)
    assert len(known.images) >= 24


def test_a_damaged_file_is_refused(copy):
    file = copy / "model.fp32.onnx"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptBundle, match=r"SHA-256 .*the manifest says .*export it again"):
        open_session(Bundle.open(copy))


@pytest.mark.parametrize("name", ["model.fp32.onnx", "known-answers.npz"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(CorruptBundle, match=f"lacks its file {name}"):
        Bundle.open(copy)


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None, True])
def test_another_schema_version_is_refused(copy, version):
    edit(copy, schema_version=version)
    with pytest.raises(UnsupportedSchema, match="update xrt-runtime"):
        Bundle.open(copy)


def test_schema_2_is_still_read(copy):
    manifest = json.loads((copy / "bundle.json").read_text())
    for spec in manifest["classes"]:
        del spec["labels"]
    edit(copy, schema_version=2, classes=manifest["classes"])
    assert [spec.labels for spec in Bundle.open(copy).manifest.classes] == [None] * 3


@pytest.mark.parametrize("version", [1, 3, 5])
def test_a_number_makes_no_earlier_bundle(copy, version):
    """Those have no digest: the number alone would be a way around it."""
    file = copy / "bundle.json"
    manifest = json.loads(file.read_text())
    file.write_text(json.dumps({**manifest, "schema_version": version}))
    with pytest.raises(CorruptBundle, match=rf"says schema {version} and has .* came with \d: it was changed"):
        Bundle.open(copy)


def test_a_manifest_of_today_has_a_digest(copy):
    file = copy / "bundle.json"
    manifest = json.loads(file.read_text())
    del manifest["content_sha256"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(CorruptBundle, match="was changed after it was written"):
        Bundle.open(copy)


def test_an_earlier_bundle_says_that_it_has_none(copy):
    edit_manifest(copy, lambda manifest: manifest.update(schema_version=5))
    with open_session(Bundle.open(copy)) as opened:
        assert "bundle.json has no digest: nothing shows whether it was changed" in opened.warning


def test_a_label_counts_as_one_class_only(copy):
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["classes"][0]["labels"] = ["Mass", "*"]
    edit(copy, classes=manifest["classes"])
    assert Bundle.open(copy).manifest.classes[0].labels == ("Mass", "*")
    manifest["classes"][1]["labels"] = ["*"]
    edit(copy, classes=manifest["classes"])
    with pytest.raises(CorruptBundle, match=r"labels count as more than one class: \['\*'\]"):
        Bundle.open(copy)


def test_an_unknown_key_is_refused(copy):
    edit(copy, surprise=1)
    with pytest.raises(CorruptBundle, match="surprise"):
        Bundle.open(copy)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="not a bundle"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", ["../model.onnx", "a/b", "/etc/passwd", "..", "", "C:x"])
def test_a_file_name_cannot_leave_the_bundle(name):
    with pytest.raises(ValueError, match="plain file name"):
        Variant(file=name, sha256="0" * 64, precision="fp32")
    assert FileName


def test_another_models_graph_fails_the_known_answers(copy):
    """The hash fits, the graph is sound, and it gives other outputs: only the known answers show that."""
    import onnx
    import onnx.numpy_helper

    from xrt.runtime._io import sha256_of

    model = onnx.load(copy / "model.fp32.onnx")
    head = next(t for t in model.graph.initializer if t.dims == [3])
    head.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(head) + np.float32(0.01), head.name))
    data = model.SerializeToString()
    (copy / "model.fp32.onnx").write_bytes(data)
    manifest = Bundle.open(copy).manifest.model_dump(mode="json")
    edit(copy, variants=[{**manifest["variants"][0], "sha256": sha256_of(data)}])
    with pytest.raises(Uncertified, match=r"no certificate in bundle.json is for model\.fp32\.onnx"):
        open_session(Bundle.open(copy))
    edit(copy, certificates=[{**c, "file_sha256": sha256_of(data)} for c in manifest["certificates"]])
    with pytest.raises(KnownAnswersFailed, match="nothing was scored"):
        open_session(Bundle.open(copy))


def test_bundles_are_immutable(bundle, bundle_path):
    with pytest.raises(UsageError, match="immutable"):
        write_bundle(bundle_path, bundle.manifest, {})


def test_a_failed_write_leaves_nothing(bundle, tmp_path):
    with pytest.raises(BundleError, match="missing or differs"):
        write_bundle(tmp_path / "new.xrt", bundle.manifest, {"model.fp32.onnx": b"other"})
    assert not list(tmp_path.iterdir())


def test_known_answers_survive_the_round_trip(bundle):
    known = bundle.known_answers()
    again = KnownAnswers.from_bytes(known.to_bytes())
    assert np.array_equal(again.images, known.images)
    assert np.array_equal(again.cams["cams"], known.cams["cams"])
    with pytest.raises(CorruptBundle):
        KnownAnswers.from_bytes(b"no archive")


def test_a_manifest_must_not_contradict_itself(bundle):
    raw = bundle.manifest.model_dump(mode="json")
    raw["classes"][1]["name"] = raw["classes"][0]["name"]
    with pytest.raises(ValueError, match="repeat"):
        Manifest.model_validate(raw)
    raw = bundle.manifest.model_dump(mode="json")
    raw["task"] = "binary"
    with pytest.raises(ValueError, match="two classes"):
        Manifest.model_validate(raw)


def test_known_answers_that_do_not_fit_the_manifest_are_refused(copy):
    from xrt.runtime._io import sha256_of

    known = Bundle.open(copy).known_answers()
    data = KnownAnswers(known.images, known.logits[:, :2], known.cams).to_bytes()
    (copy / "known-answers.npz").write_bytes(data)
    spec = Bundle.open(copy).manifest.known_answers.model_dump()
    edit(copy, known_answers={**spec, "sha256": sha256_of(data)})
    with pytest.raises(CorruptBundle, match="logits .* for 3 classes"):
        open_session(Bundle.open(copy))


def test_weights_outside_the_file_are_refused(bundle, tmp_path, monkeypatch):
    """External data would escape the hash. It lies in the working directory, where ONNX Runtime would find it."""
    import onnx
    import onnx.external_data_helper

    from xrt.runtime.backends import SessionOptions, choose_backend
    from xrt.runtime.errors import BackendError

    model = onnx.load_from_string(bundle.read(bundle.variant()))
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    manifest = bundle.manifest
    with pytest.raises(BackendError, match="external data, weights outside its file"):
        choose_backend().open((tmp_path / "model.onnx").read_bytes(), manifest.interface, SessionOptions())
