"""Small graphs with the inputs and outputs of a bundle, in each precision, and the same rewriting for large ones."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from xrt.runtime.backends.pruning import keep_output
from xrt.runtime.bundle.manifest import CamSpec, GraphInterface, GraphSpec, Preprocessing

SIZE = Preprocessing(height=8, width=8)
GRAPH = GraphSpec(
    cams=(CamSpec(output="cams", layer="r", tensor="r", channels=4, height=8, width=8),), explained=(0, 1)
)
INTERFACE = GraphInterface(GRAPH, SIZE)
CLASSIFIER = """<ir_version: 9, opset_import: ["" : 18]>
g (uint8[n, 1, 8, 8] image) => (float[n, 2] logits, float[n, 2, 8, 8] cams)
<float[1] grey = {0.0039}, int64[2] axes = {2, 3}>
{
  x = Cast<to = 1>(image)
  a = Mul(x, grey)
  c = Conv<pads = [1, 1, 1, 1]>(a, w, b)
  r = Relu(c)
  p = ReduceMean<keepdims = 0>(r, axes)
  logits = Gemm(p, head, bias)
  m = Conv(r, per_class)
  cams = Relu(m)
}"""
"""A convolution, a pooling and a product that the logits need; one more convolution that only the maps need."""


def parse(text: str) -> onnx.ModelProto:
    """A graph from text, its nodes named after their first outputs."""
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def classifier(**weights: np.ndarray) -> onnx.ModelProto:
    """`CLASSIFIER` with weights drawn from a fixed seed, or those given."""
    draw = np.random.default_rng(0)
    shapes = {"w": (4, 1, 3, 3), "b": (4,), "head": (4, 2), "bias": (2,), "per_class": (2, 4, 1, 1)}
    model = parse(CLASSIFIER)
    for name, shape in shapes.items():
        values = weights.get(name, draw.normal(size=shape).astype(np.float32))
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def in_precision(model: onnx.ModelProto, precision: str, logits: str = "logits") -> onnx.ModelProto:
    """A copy whose convolutions and products compute in `fp16` or `int8` where the logits need them.

    It rewrites types only, as the exporter's variants do, with scales that fit no data: for builders, not for numbers.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if precision == "fp32":
        return copy
    needed = {n.output[0] for n in onnx.load_from_string(keep_output(model.SerializeToString(), logits)).graph.node}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    rewritten: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm") and node.output[0] in needed:
            rewritten += _half(node) if precision == "fp16" else _quantised(node, weights, copy.graph)
        else:
            rewritten.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(rewritten)
    return copy


def _half(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    before = []
    for i, name in enumerate(node.input):
        half = f"{node.output[0]}/half{i}"
        before.append(helper.make_node("Cast", [name], [half], half, to=TensorProto.FLOAT16))
        node.input[i] = half
    result = node.output[0]
    node.output[0] = f"{result}/half"
    return [
        *before,
        node,
        helper.make_node("Cast", [node.output[0]], [result], f"{result}/float", to=TensorProto.FLOAT),
    ]


def _quantised(node: onnx.NodeProto, weights: dict[str, np.ndarray], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    before = []
    for i, name in enumerate(node.input[:2]):
        stem = f"{node.output[0]}/q{i}"
        scale = np.float32(0.02)
        if name in weights:
            scale = np.float32(max(1e-6, np.abs(weights[name]).max() / 127))
            values = np.clip(np.round(weights[name] / scale), -127, 127).astype(np.int8)
            graph.initializer.append(numpy_helper.from_array(values, f"{stem}/int8"))
        else:
            before.append(helper.make_node("QuantizeLinear", [name, f"{stem}/s", f"{stem}/z"], [f"{stem}/int8"], stem))
        graph.initializer.append(numpy_helper.from_array(scale, f"{stem}/s"))
        graph.initializer.append(numpy_helper.from_array(np.int8(0), f"{stem}/z"))
        inputs = [f"{stem}/int8", f"{stem}/s", f"{stem}/z"]
        before.append(helper.make_node("DequantizeLinear", inputs, [f"{stem}/d"], f"{stem}/d"))
        node.input[i] = f"{stem}/d"
    return [*before, node]
