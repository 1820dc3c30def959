from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from xrt.runtime.backends.pruning import keep_output

TEXT = """<ir_version: 9, opset_import: ["" : 18]>
g (float[n, 2] x) => (float[n, 2] y, float[n, 2] z) <float[2] a = {1.0, 2.0}, float[2] b = {3.0, 4.0}>
{ s = Mul(x, a)  y = Relu(s)  t = Mul(s, b)  z = Neg(t) }"""


@pytest.fixture
def model() -> bytes:
    return onnx.parser.parse_model(TEXT).SerializeToString()


def run(model: bytes, inputs: dict[str, np.ndarray]) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["y"], inputs)[0]


def test_only_what_the_output_needs_is_left(model):
    pruned = keep_output(model, "y")
    graph = onnx.load_from_string(pruned).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Relu"]
    assert [tensor.name for tensor in graph.initializer] == ["a"]
    assert [value.name for value in graph.output] == ["y"]
    x = np.array([[1, -1]], dtype=np.float32)
    assert run(pruned, {"x": x}).tolist() == [[1, 0]]


def test_everything_is_left_where_everything_is_needed(model):
    graph = onnx.load_from_string(keep_output(model, "z")).graph
    assert [node.op_type for node in graph.node] == ["Mul", "Mul", "Neg"]
    assert len(graph.initializer) == 2


def test_branches_lose_no_node():
    text = """<ir_version: 9, opset_import: ["" : 18]>
    g (bool c, float[n] x) => (float[n] y, float[n] z)
    { s = Neg(x)  y = If(c) <then_branch = a () => (float[n] p) { p = Abs(s) },
      else_branch = b () => (float[n] q) { q = Relu(s) }>  z = Exp(x) }"""
    pruned = keep_output(onnx.parser.parse_model(text).SerializeToString(), "y")
    assert len(onnx.load_from_string(pruned).graph.node) == 3
    values = run(pruned, {"c": np.array(True), "x": np.array([2], dtype=np.float32)})
    assert values.tolist() == [2]


@pytest.mark.parametrize("cut", [10, -7])
def test_a_damaged_file_is_named_so(model, cut):
    with pytest.raises(ValueError, match="not an ONNX file|no output"):
        keep_output(model[:cut], "y")


def test_an_output_that_is_not_there(model):
    with pytest.raises(ValueError, match="no output 'logits'"):
        keep_output(model, "logits")


def test_logits_alone_are_those_of_the_whole_graph(bundle):
    from xrt.runtime.certification.inputs import phantom_inputs
    from xrt.runtime.session import open_session

    images = phantom_inputs(3, 0, bundle.manifest.preprocessing).images
    with open_session(bundle).session as session:
        alone = session.infer(images, cams=False)
        assert alone.cams == {}
        np.testing.assert_allclose(alone.logits, session.infer(images).logits, rtol=0, atol=1e-6)
