from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime.tensorrt.graphs import classifier, in_precision, parse

from xrt.runtime.errors import BackendError
from xrt.runtime.tensorrt.onnx_support import check_file

QUANTISED = """<ir_version: 9, opset_import: ["" : 18]>
g (float[n, 4] x) => (float[n, 4] y) <float s = {{0.1}}, {zero}>
{{ q = QuantizeLinear(x, s{z})  d = DequantizeLinear(q, s{z})  y = Relu(d) }}"""
BIAS = """<ir_version: 9, opset_import: ["" : 18]>
g (float[n, 2] x) => (float[n, 2] y) <float s = {0.1}, int32[2] b = {1, 2}>
{ d = DequantizeLinear(b, s)  y = Add(x, d) }"""


def check(text: str) -> str:
    return check_file(parse(text).SerializeToString())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_precision_that_a_file_computes_in(precision):
    assert check_file(in_precision(classifier(), precision).SerializeToString()) == precision


def test_half_precision_weights_are_fp16():
    model = classifier()
    model.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float16), "more"))
    assert check_file(model.SerializeToString()) == "fp16"


def test_symmetric_int8_passes():
    assert check(QUANTISED.format(zero="int8 z = {0}", z=", z")) == "int8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            QUANTISED.format(zero="uint8 z = {0}", z=", z"),
            r"QuantizeLinear 'q' has a zero point of type uint8, .*wrong",
        ),
        (QUANTISED.format(zero="float unused = {0.0}", z=""), r"QuantizeLinear 'q' has a zero point of type uint8"),
        (QUANTISED.format(zero="int8 z = {3}", z=", z"), r"QuantizeLinear 'q' has a zero point other than 0"),
        (BIAS, r"DequantizeLinear 'd' carries an int32 bias, which TensorRT refuses: .*made for the GPU"),
        (BIAS.replace("d = Deq", "i = Identity(b) d = Deq").replace("Linear(b,", "Linear(i,"), "int32 bias"),
        (
            '<ir_version: 9, opset_import: ["" : 18]> g (uint8[n] x) => (uint8[n] y) <uint8 z = {0}>'
            "{ y = MatMulInteger(x, x, z, z) }",
            "MatMulInteger 'y' is quantised in operator format",
        ),
        (
            '<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]> g (float[n] x) => (float[n] y)'
            "{ y = com.microsoft.Gelu(x) }",
            "Gelu 'y' is an operator of com.microsoft, not of ONNX",
        ),
        (
            '<ir_version: 10, opset_import: ["" : 21]> g (float[n] x) => (float[n] y) { y = Relu(x) }',
            "the file has opset 21 and IR version 10, TensorRT 10.3 reads up to 20 and 10: export the bundle again",
        ),
        (
            '<ir_version: 11, opset_import: ["" : 18]> g (float[n] x) => (float[n] y) { y = Relu(x) }',
            "opset 18 and IR version 11",
        ),
    ],
)
def test_what_tensorrt_would_misread_is_refused(text, message):
    with pytest.raises(BackendError, match=message) as refusal:
        check(text)
    assert "\n" not in str(refusal.value)


def test_a_refusal_reaches_into_branches():
    model = parse(QUANTISED.format(zero="uint8 z = {0}", z=", z"))
    inner = model.graph.node[0]
    branch = parse('<ir_version: 9, opset_import: ["" : 18]> g () => (float o) { o = Constant<value_float = 1.0>() }')
    branch.graph.node.insert(0, inner)
    outer = parse('<ir_version: 9, opset_import: ["" : 18]> g (bool c) => (float y) { y = Identity(c) }')
    del outer.graph.node[:]
    outer.graph.initializer.extend(model.graph.initializer)
    outer.graph.node.append(
        onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch.graph, else_branch=branch.graph)
    )
    with pytest.raises(BackendError, match="QuantizeLinear 'q' has a zero point of type uint8"):
        check_file(outer.SerializeToString())


@pytest.mark.parametrize("junk", [b"junk", b"\x08"])
def test_what_is_no_onnx_file_is_refused(junk):
    with pytest.raises(BackendError, match="not an ONNX file: export the bundle again"):
        check_file(junk)
