"""Bundles and caches that somebody else wrote: refused in one line, within a bounded time and memory."""

from __future__ import annotations

import io
import os
import shutil
import zipfile

import numpy as np
import onnx
import onnx.parser
import pytest
from edited_bundles import edit_manifest

from xrt.runtime import cache
from xrt.runtime._io import sha256_of
from xrt.runtime.backends import BACKENDS, SessionOptions
from xrt.runtime.backends.graph_content import require_self_contained
from xrt.runtime.bundle import Bundle
from xrt.runtime.cache import read_private, write_private
from xrt.runtime.errors import BackendError, CorruptBundle

CPU = [name for name, backend in BACKENDS.items() if backend.family == "cpu" and backend.unavailable_reason() is None]


@pytest.fixture
def copy(bundle_path, tmp_path):
    return shutil.copytree(bundle_path, tmp_path / "copy.xrt")


def outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """A tensor whose numbers are in `w.bin`."""
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    return tensor


@pytest.mark.parametrize("backend", CPU)
def test_no_back_end_reads_the_working_directory(bundle, tmp_path, monkeypatch, backend):
    """OpenVINO took the weights of a file of that name there, and scored with them."""
    model = onnx.load_from_string(bundle.read(bundle.variant()))
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / "w.bin").write_bytes(weight.raw_data)
    outside(weight)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match="external data, weights outside its file"):
        BACKENDS[backend].open(model.SerializeToString(), bundle.manifest.interface, SessionOptions())


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 18]>
        g (float[n] x, bool c) => (float[n] y) <float[1] w = {{1}}>
        {{ {text} }}
    """)


@pytest.mark.parametrize("place", ["a constant", "a subgraph", "a sparse tensor", "a function"])
def test_external_data_is_found_wherever_it_is(place):
    model = parsed("k = Constant<value_float = 1.0>() y = Add(x, w)")
    tensor = outside(onnx.numpy_helper.from_array(np.ones(1, np.float32), "t"))
    constant = onnx.helper.make_node("Constant", [], ["b"], value=tensor)
    if place == "a constant":
        model.graph.node.append(constant)
    elif place == "a subgraph":
        body = onnx.helper.make_graph([constant], "body", [], [onnx.helper.make_tensor_value_info("b", 1, None)])
        model.graph.node.append(onnx.helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body))
    elif place == "a sparse tensor":
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor)
    else:
        function = model.functions.add(name="f", domain="d")
        function.node.append(constant)
    with pytest.raises(BackendError, match="external data"):
        require_self_contained(model.SerializeToString())
    require_self_contained(parsed("y = Add(x, w)").SerializeToString())


def test_a_loop_is_refused_before_it_runs():
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [onnx.helper.make_tensor_value_info("i", 7, []), onnx.helper.make_tensor_value_info("go", 9, [])],
        [onnx.helper.make_tensor_value_info("on", 9, [])],
    )
    model = parsed("y = Add(x, w)")
    model.graph.node.append(onnx.helper.make_node("Loop", ["", "c"], [], body=body))
    with pytest.raises(BackendError, match="the graph has a Loop, which may run without end"):
        require_self_contained(model.SerializeToString())


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b"\x3a\x7f", b"\x07", b"\x3a"])
def test_what_is_no_protobuf_is_refused(data):
    with pytest.raises(BackendError, match="is no ONNX file"):
        require_self_contained(data)


BROKEN = {
    "a key twice": ('{"schema_version": 1, "schema_version": 5}', "the key 'schema_version' is given twice"),
    "no number": ('{"schema_version": NaN}', "NaN is no number in JSON"),
    "infinity": ('{"schema_version": -Infinity}', "-Infinity is no number in JSON"),
    "depth": ("[" * 100_000, "is not JSON"),
    "digits": ('{"schema_version": ' + "9" * 10_000 + "}", "is not JSON"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_json_that_readers_disagree_about_is_refused(copy, broken):
    text, message = BROKEN[broken]
    (copy / "bundle.json").write_text(text)
    with pytest.raises(CorruptBundle, match=message):
        Bundle.open(copy)


def test_a_key_twice_deep_inside(copy):
    file = copy / "bundle.json"
    text = file.read_text()
    assert '"threshold": 0.4' in text
    file.write_text(text.replace('"threshold": 0.4', '"threshold": 0.4, "threshold": 0.9'))
    with pytest.raises(CorruptBundle, match="the key 'threshold' is given twice"):
        Bundle.open(copy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_devices_do_not_block(copy):
    (copy / "bundle.json").unlink()
    os.mkfifo(copy / "bundle.json")
    with pytest.raises(CorruptBundle, match="is no regular file"):
        Bundle.open(copy)
    (copy / "bundle.json").unlink()
    (copy / "bundle.json").symlink_to("/dev/zero")
    with pytest.raises(CorruptBundle, match="is no regular file"):
        Bundle.open(copy)


def test_a_manifest_has_a_size(copy):
    with (copy / "bundle.json").open("r+b") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(CorruptBundle, match="is over 16 MiB, the limit"):
        Bundle.open(copy)


def test_known_answers_that_unpack_to_more_than_they_are(copy):
    """A zip of a few kilobytes that becomes a gigabyte: only as much is unpacked as the manifest describes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("images.npy", "logits.npy", "cam:cams.npy"):
            archive.writestr(name, bytes(50_000_000))
    data = buffer.getvalue()
    assert len(data) < 200_000
    (copy / "known-answers.npz").write_bytes(data)
    edit_manifest(copy, lambda manifest: manifest["known_answers"].update(sha256=sha256_of(data)))
    with pytest.raises(CorruptBundle, match="they unpack to .* bytes or more, the manifest describes"):
        Bundle.open(copy).known_answers()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(cache.KEY_VARIABLE, str(tmp_path / "config" / "cache.key"))
    return cache.cache_folder("calibrations")


def test_a_cache_gives_back_what_was_kept(own_cache):
    assert read_private(own_cache / "a") is None
    write_private(own_cache / "a", b"content")
    assert read_private(own_cache / "a") == b"content"
    assert cache.key_path().stat().st_mode & 0o077 == 0
    assert (own_cache / "a").stat().st_mode & 0o077 == 0


def test_what_was_put_there_otherwise_is_not_used(own_cache):
    """A poisoned calibration was published as certified int8."""
    write_private(own_cache / "a", b"content")
    write_private(own_cache / "b", b"other")
    genuine = (own_cache / "b").read_bytes()
    for planted in (b"poison", b"poison" + bytes(32), genuine, b""):
        (own_cache / "a").write_bytes(planted)
        assert read_private(own_cache / "a") is None
    cache.key_path().unlink()
    assert read_private(own_cache / "b") is None


@pytest.mark.parametrize("place", ["the root", "the folder", "the file", "the key"])
def test_what_others_may_write_is_not_used(own_cache, place, caplog):
    write_private(own_cache / "a", b"content")
    path = {
        "the root": own_cache.parent,
        "the folder": own_cache,
        "the file": own_cache / "a",
        "the key": cache.key_path(),
    }
    path[place].chmod(0o777)
    assert read_private(own_cache / "a") is None
    assert "by others (chmod" in caplog.text
    path[place].chmod(0o700)
    assert read_private(own_cache / "a") == b"content"


def test_a_calibration_comes_from_this_users_cache_alone(own_cache):
    from xrt.export.quantisation.calibration import load_or_make

    assert load_or_make(["key"], lambda: b"made") == b"made"
    assert load_or_make(["key"], lambda: b"made again") == b"made"
    (file,) = own_cache.iterdir()
    content = b"poison"
    file.write_bytes(content + b"\0" + sha256_of(content).encode())
    assert load_or_make(["key"], lambda: b"made again") == b"made again"
