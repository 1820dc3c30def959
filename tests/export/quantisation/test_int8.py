"""int8 by calibration: what every quantiser makes for either family, the cache, and images that must not be used."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest
from export.parity import interface_of, manifest_of
from onnx import numpy_helper
from PIL import Image

from xrt.export.compile import compile_source
from xrt.export.publish import ExportOptions, publish_source
from xrt.export.quantisation import calibration
from xrt.export.quantisation.calibration import calibration_images, load_or_make
from xrt.export.quantisation.quantisers import PRODUCTS, QUANTISERS
from xrt.export.quantisation.variants import DEFAULT_QUANTISERS, quantised_file
from xrt.runtime.backends import BACKENDS, SessionOptions
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.gate import measure
from xrt.runtime.progress import Progress


@pytest.fixture(scope="module")
def explained_model(compact_source):
    return compile_source(compact_source)


@pytest.fixture(scope="module")
def images(compact_source):
    return phantom_inputs(32, 6, compact_source.preprocessing)


FILES = [(name, target) for name, quantiser in QUANTISERS.items() for target in quantiser.families]


@pytest.mark.parametrize(("name", "target"), FILES)
def test_every_quantiser(compact_source, explained_model, images, name, target):
    data = quantised_file(explained_model.data, explained_model.graph, QUANTISERS[name], target, images)
    proto = onnx.load_from_string(data)
    producers = {output: node for node in proto.graph.node for output in node.output}
    weights = {t.name: t for t in proto.graph.initializer}
    reads = [
        (node, producers[value].op_type if value in producers else None)
        for node in proto.graph.node
        if node.op_type in PRODUCTS
        for value in node.input[:2]
    ]
    convolutions = [kind for node, kind in reads if node.op_type == "Conv" and node.output[0].startswith("conv2d")]
    assert len(convolutions) == 2 * 3
    # NNCF lets max pooling, which only chooses among numbers, work on int8 too.
    assert set(convolutions) <= {"DequantizeLinear", "MaxPool"}
    assert "DequantizeLinear" not in {kind for node, kind in reads if node.op_type == "Gemm"}, "the head stays in float"
    zeros = {weights[n.input[2]].data_type for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    if target == "gpu":
        assert zeros == {onnx.TensorProto.INT8}
        points = [
            weights[n.input[2]]
            for n in proto.graph.node
            if n.op_type.endswith("quantizeLinear") or "Quant" in n.op_type
        ]
        assert not any(numpy_helper.to_array(point).any() for point in points)
        assert not [t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT32]
    else:
        assert onnx.TensorProto.UINT8 in zeros
    evidence = phantom_inputs(12, 8, compact_source.preprocessing)
    expected, manifest = (
        explained_model.reference.outputs(evidence.images),
        manifest_of(compact_source, explained_model.graph),
    )
    for backend in (b for b in BACKENDS.values() if b.family == "cpu" and b.unavailable_reason() is None):
        with backend.open(data, interface_of(explained_model, compact_source), SessionOptions()) as session:
            figures = measure(expected, session.infer_all(evidence.images), manifest)
        # Of an untrained network; a trained one must meet the limits of the gate.
        assert 1e-5 < figures.probability_change_max < 0.2
        assert figures.map_correlation > 0.5


def test_calibrating_is_done_once(explained_model, images, monkeypatch):
    quantiser = QUANTISERS[DEFAULT_QUANTISERS["gpu"]]
    first = quantised_file(explained_model.data, explained_model.graph, quantiser, "gpu", images)
    monkeypatch.setattr(type(quantiser), "quantise", lambda *_: pytest.fail("calibrated again"))
    assert quantised_file(explained_model.data, explained_model.graph, quantiser, "gpu", images) == first


def test_a_damaged_cache_is_done_without(cache, tmp_path, monkeypatch):
    assert load_or_make(["a"], lambda: b"made") == b"made"
    (cache_file,) = [p for p in (cache / "calibrations").iterdir() if p.read_bytes().startswith(b"made")]
    cache_file.write_bytes(b"made, but not by us")
    assert load_or_make(["a"], lambda: b"again") == b"again"
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(calibration, "cache_folder", lambda name: file / name)
    assert load_or_make(["b"], lambda: b"made") == b"made"


def test_too_few_images(compact_source, tmp_path, radiographs):
    with pytest.raises(UsageError, match=r"has 3 different readable radiographs; int8 is calibrated on 32 at least"):
        calibration_images(radiographs(3), compact_source)
    with pytest.raises(DataError, match="holds no readable chest radiograph"):
        empty = tmp_path / "empty"
        empty.mkdir()
        calibration_images(empty, compact_source)


@pytest.fixture
def radiographs(tmp_path):
    """A folder with so many phantoms, one of them twice, and a file that is no image."""
    from xrt.runtime.phantoms import generate

    def write(count: int):
        folder = tmp_path / f"phantoms{count}"
        folder.mkdir()
        for i, phantom in enumerate(generate(count, seed=3, size=64)):
            Image.fromarray(phantom.image).save(folder / f"{i}.png")
        (folder / "copy.png").write_bytes((folder / "0.png").read_bytes())
        (folder / "broken.png").write_bytes(b"no image")
        return folder

    return write


def test_images_that_would_certify_what_they_made(compact_source, images):
    """Whatever their bytes: these are saved as JPEG again. What only some of them show is left out, and noted."""
    evidence = phantom_inputs(4, 6, compact_source.preprocessing)
    saved_again = replace(evidence, images=np.stack([as_jpeg(image[0])[None] for image in evidence.images]))
    assert not set(saved_again.digests) & set(images.digests)
    with pytest.raises(UsageError, match=r"images to calibrate on also certify, all 4 of them .*--certify"):
        saved_again.without(images)
    others = phantom_inputs(3, 8, compact_source.preprocessing)
    mixed = replace(
        evidence,
        images=np.concatenate([saved_again.images[:1], others.images]),
        names=("again", *others.names),
        labels=np.eye(4, 3, dtype=np.float32),
    )
    progress = Notes()
    kept = mixed.without(images, progress=progress)
    assert kept.names == others.names
    np.testing.assert_array_equal(kept.labels, np.eye(4, 3, dtype=np.float32)[1:])
    assert progress.notes == ["1 of 4 images to certify are left out, int8 is calibrated on the same: again"]


class Notes(Progress):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def as_jpeg(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def test_int8_without_images(compact_source, tmp_path):
    with pytest.raises(UsageError, match="give 32 or more with --calibrate"):
        publish_source(compact_source, tmp_path / "a.xrt", ExportOptions(precisions=("int8",)))
    with pytest.raises(UsageError, match="--calibrate is for int8"):
        publish_source(compact_source, tmp_path / "a.xrt", ExportOptions(calibrate=tmp_path))
    assert not (tmp_path / "a.xrt").exists()


def test_a_bundle_of_all_precisions(compact_source, tmp_path, radiographs):
    """By force, since nothing says that an untrained network can be quantised; each variant has its certificates."""
    from xrt.runtime.session import open_session

    options = ExportOptions(
        precisions=("fp32", "fp16", "int8"), calibrate=radiographs(40), report=tmp_path / "gate", force=True
    )
    bundle = publish_source(compact_source, tmp_path / "all.xrt", options).bundle
    files = [(v.file, v.precision, v.target) for v in bundle.manifest.variants]
    assert files == [
        ("model.fp32.onnx", "fp32", "any"),
        ("model.fp16.onnx", "fp16", "any"),
        ("model.cpu.int8.onnx", "int8", "cpu"),
        ("model.gpu.int8.onnx", "int8", "gpu"),
    ]
    pairs = {(c.file_sha256, c.backend) for c in bundle.manifest.certificates}
    backends = [b.name for b in BACKENDS.values() if b.family == "cpu" and b.unavailable_reason() is None]
    assert pairs == {(v.sha256, name) for v in bundle.manifest.variants for name in backends}
    html = (tmp_path / "gate" / "gate.html").read_text()
    assert all(file in html for file, _, _ in files)
    assert html.count("data:image/png") == 2 * 2 * len(pairs)
    for precision in ("fp32", "fp16", "int8"):
        opened = open_session(bundle, precision=precision)
        assert opened.variant.precision == precision
        assert np.isfinite(opened.session.infer(phantom_inputs(2, 1, compact_source.preprocessing).images).logits).all()
        opened.session.close()


def test_a_refused_variant_is_named_and_the_others_are_published(compact_source, tmp_path, radiographs, monkeypatch):
    from xrt.runtime.gate import limits

    monkeypatch.setitem(limits.LIMITS["int8"], "probability_change_max", 1e-9)
    options = ExportOptions(precisions=("int8",), calibrate=radiographs(40))
    publication = publish_source(compact_source, tmp_path / "a.xrt", options)
    refusal = r"is published with model\.fp32\.onnx; the gate refuses model\.cpu\.int8"
    assert re.search(refusal, publication.refusal)
    assert [c.built.variant.precision for c in publication.certification.refused] == ["int8", "int8"]
    assert (tmp_path / "a.xrt" / "model.fp32.onnx").is_file()
    assert not list((tmp_path / "a.xrt").glob("*int8*"))
