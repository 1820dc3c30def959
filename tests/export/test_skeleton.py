"""Graphs without their weights: what converts and runs them makes no copies, and every weight comes back."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from export.onnx_graphs import BODY, graph, open_file
from onnx import numpy_helper

from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.ir.skeleton import LARGE, Skeleton


def large_model(end="y = Identity (l)", *, opset=17, ir=8, as_inputs=False):
    """A network of 500 channels, so that its weights are large."""
    model = graph(BODY + end, opset=opset, ir=ir)
    rng = np.random.default_rng(3)
    weights = {"w": (500, 1, 3, 3), "h": (5, 500), "z": (5,), "large": (500, 5)}
    del model.graph.initializer[:]
    for name, shape in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
        if as_inputs:
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return model


SUM = "m = MatMul (f, large) y = Add (m, l)"
BRANCHES = """
    yes = Constant <value_int=1> () b = Cast <to=9> (yes)
    y = If (b) <then_branch = inside () => (float[n,5] t) { t = MatMul (f, large) },
                else_branch = outside () => (float[n,5] e) { e = Neg (l) }>
"""


@pytest.mark.parametrize("opset", [9, 17, 18])
def test_the_weights_of_a_file_are_in_memory_once(tmp_path, opset):
    source = open_file(large_model(opset=opset), tmp_path)
    assert {"w", "h"} <= set(source.file.weights)
    assert source.file.proto.ByteSize() < 10 * LARGE
    first, second = source.graph().model.graph, source.graph().model.graph
    for name in ("w", "h"):
        for part in (first, second):
            value = part.initializers[name].const_value
            assert value is not None
            assert np.shares_memory(value.numpy(), source.file.weights[name])


@pytest.mark.parametrize(
    ("end", "options"), [(SUM, {}), (SUM, {"as_inputs": True, "ir": 3, "opset": 9}), (BRANCHES, {})]
)
def test_a_skeleton_runs_as_the_file_does(end, options):
    model = large_model(end, **options)
    session = pytest.importorskip("onnxruntime").InferenceSession(model.SerializeToString())
    images = np.random.default_rng(0).normal(size=(2, 1, 64, 64)).astype(np.float32)
    expected = session.run(["y"], {"x": images})[0]
    skeleton = Skeleton.taken_from(model)
    np.testing.assert_allclose(PlainGraph(skeleton).run({"x": images}, ["y"])["y"], expected, rtol=1e-5, atol=1e-6)
    again = Skeleton.of(skeleton.graph())
    assert again.weights.keys() == skeleton.weights.keys()
    np.testing.assert_allclose(PlainGraph(again).run({"x": images}, ["y"])["y"], expected, rtol=1e-5, atol=1e-6)


def test_a_skeleton_of_a_graph_leaves_the_graph_as_it_is(tmp_path):
    model = open_file(large_model(), tmp_path).graph().model
    before = onnx.load_from_string(ir.to_proto(model).SerializeToString())
    Skeleton.of(model)
    assert ir.to_proto(model) == before
