"""Back ends' own faults: avoided where they are known, named where they are not, and never blamed on the model."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from edited_bundles import edit_manifest
from export.onnx_graphs import BODY, graph, integers, open_file
from onnx import numpy_helper

from xrt.export.compile import Request
from xrt.export.publish import ExportOptions, publish_source
from xrt.runtime import Bundle, open_session
from xrt.runtime.backends import BACKENDS, available_backends
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.certification.optimiser_fault import PASSES
from xrt.runtime.errors import RefusedByGate

PADDED = """
    c = Conv <kernel_shape=[3,3], strides=[4,4], pads=[1,1,1,1]> (x, w)
    below = Sub (c, offset)
    p = Pad (below, pads)
    m = MaxPool <kernel_shape=[3,3], strides=[2,2]> (p)
    g = GlobalAveragePool (m)
    f = Flatten <axis=1> (g)
    y = Gemm <transB=1> (f, h, z)
"""
STRIDED = BODY.replace(
    "g = GlobalAveragePool (r)",
    """
    c2 = Conv <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (r, square)
    r2 = Relu (c2)
    g = GlobalAveragePool (r2)
""",
)


def padded():
    """A stem that pads signed numbers with zeros before it pools their maxima, as BiT's does."""
    model = integers(graph(PADDED), pads=[0, 0, 0, 0, 0, 0, 1, 1])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(9), "offset"))
    return model


def strided():
    """A convolution with a stride and as many inputs as outputs behind the explained layer."""
    model = graph(STRIDED + "y = Identity (l)")
    square = np.random.default_rng(1).normal(size=(6, 6, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(square, "square"))
    return model


def publish(model, folder, *layers):
    return publish_source(open_file(model, folder), folder / "a.xrt", ExportOptions(request=Request(layers))).bundle


def test_padding_before_a_maximum_is_right_in_every_back_end(tmp_path):
    bundle = publish(padded(), tmp_path)
    assert {c.verdict for c in bundle.manifest.certificates} == {"passed (synthetic only)"}
    assert {c.backend for c in bundle.manifest.certificates} == {b.name for b in available_backends()}


def test_an_optimisation_at_fault_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("xrt.runtime.certification.optimiser_fault.WRONG_PASSES", ())
    for name in list(BACKENDS):
        monkeypatch.delitem(BACKENDS, name)
    monkeypatch.setitem(BACKENDS, "onnxruntime", OnnxRuntimeCpu(without=()))
    version = onnxruntime.__version__.replace(".", r"\.")
    blame = rf"the file itself is right: .* its optimisation Pad_Fusion in onnxruntime {version} changes the result"
    with pytest.raises(RefusedByGate, match=blame):
        publish(padded(), tmp_path)


def test_a_shared_square_weight_is_right_in_every_back_end(tmp_path):
    pytest.importorskip("openvino")
    bundle = publish(strided(), tmp_path, "r")
    assert {c.verdict for c in bundle.manifest.certificates} == {"passed (synthetic only)"}


def test_a_window_larger_than_the_map_is_the_mean_of_the_map(tmp_path):
    """As Hugging Face's EfficientNet pools; OpenVINO refuses such a window."""
    pytest.importorskip("openvino")
    pool = "g = AveragePool <kernel_shape=[1280,1280], strides=[1280,1280], ceil_mode=1> (r)"
    bundle = publish(graph(BODY.replace("g = GlobalAveragePool (r)", pool) + "y = Identity (l)"), tmp_path)
    assert {c.verdict for c in bundle.manifest.certificates} == {"passed (synthetic only)"}
    assert {c.backend for c in bundle.manifest.certificates} >= {"onnxruntime", "openvino"}


def test_openvino_says_why_it_refuses():
    openvino = pytest.importorskip("openvino")
    from onnx import parser

    from xrt.runtime.backends.openvino import openvino_errors
    from xrt.runtime.errors import BackendError

    text = "m (float[n,2,4,4] x) => (float[n,2,1,1] y) { y = AveragePool<kernel_shape=[9,9], ceil_mode=1>(x) }"
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> ' + text)
    refusal = r"OpenVINO refuses the graph: Kernel after dilation has size \(dim: 9\) larger than the data shape"
    with pytest.raises(BackendError, match=refusal), openvino_errors("refuses the graph"):
        openvino.Core().read_model(model.SerializeToString())


def test_auto_takes_the_back_end_that_passed(tmp_path):
    pytest.importorskip("openvino")
    bundle = publish(graph(BODY + "y = Identity (l)"), tmp_path)

    def fail(manifest):
        for certificate in manifest["certificates"]:
            if certificate["backend"] == "onnxruntime":
                certificate.update(verdict="failed", reasons=["logit_error is 3"])

    edit_manifest(bundle.path, fail)
    reopened = Bundle.open(bundle.path)
    with open_session(reopened) as opened:
        assert opened.backend.name == "openvino"
        images = phantom_inputs(2, 0, bundle.manifest.preprocessing).images
        assert np.isfinite(opened.session.infer(images).logits).all()


def test_the_culprit_is_looked_for_among_real_names():
    assert "Pad_Fusion" in PASSES
    assert len(set(PASSES)) == len(PASSES)
