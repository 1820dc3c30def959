"""Every rule of the table against one oracle: the directional derivative of the very graph, in float64.

The graphs are written as text. Inputs that begin with `w` become constants; those that begin with `x` carry gradients.
The emitted graph is evaluated by ONNX's reference evaluator after everything in it was widened to float64.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from xrt.export.autodiff import VJPS, Emitter, gradients


class ConvTranspose(OpRun):
    """torch's, since that of ONNX's reference evaluator rejects groups of more than one channel."""

    op_domain = ""

    def _run(self, x, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides):
        full = torch.nn.functional.conv_transpose2d(
            torch.tensor(x), torch.tensor(w), stride=strides, groups=group, dilation=dilations
        )
        # torch has one padding for both sides, so the cut is made here; output_padding extends the far side.
        full = torch.nn.functional.pad(full, (0, output_padding[1], 0, output_padding[0]))
        bottom, right = full.shape[2] - pads[2], full.shape[3] - pads[3]
        return (full[:, :, pads[0] : bottom, pads[1] : right].numpy(),)


HEADER = '<ir_version: 9, opset_import: ["" : 18]>\n'
SEEDS = 3
# Small enough that no input lies within a step of a kink; float64 leaves nine digits of the difference.
STEP = 1e-7
# Constants fold in float32, as they do in a real export, so the two sides agree to its rounding and no better.
TOLERANCE = 3e-5

CASES: dict[str, list[str]] = {
    "Identity": ["g (float[N,3] x) => (float[N,3] y) { y = Identity(x) }"],
    "Dropout": ["g (float[N,3] x) => (float[N,3] y) { y = Dropout(x) }"],
    "Cast": ["g (float[N,3] x) => (float[N,3] y) { y = Cast<to = 1>(x) }"],
    "Add": [
        "g (float[N,3,4] x, float[3,1] w) => (float[N,3,4] y) { y = Add(x, w) }",
        "g (float[N,3,4] x0, float[N,3,1] x1) => (float[N,3,4] y) { y = Add(x0, x1) }",
    ],
    "Sub": [
        "g (float[N,3,4] x0, float[N,1,4] x1) => (float[N,3,4] y) { y = Sub(x0, x1) }",
        "g (float[1] w, float[N,3] x) => (float[N,3] y) { y = Sub(w, x) }",
    ],
    "Mul": [
        "g (float[N,3,4] x0, float[N,3,1] x1) => (float[N,3,4] y) { y = Mul(x0, x1) }",
        "g (float[N,3] x) => (float[N,3] y) { y = Mul(x, x) }",
    ],
    "Div": [
        "g (float[N,3] x, float[3] w) => (float[N,3] y) { y = Div(x, w) }",
        "g (float[N,3,4] x0, float[N,1,4] x1) => (float[N,3,4] y) { e = Exp(x1) s = Div(x0, x1) y = Identity(s) }",
    ],
    "Neg": ["g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"],
    "Relu": ["g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }"],
    "Clip": [
        "g (float[N,30] x) => (float[N,30] y) <float l = {-0.5}, float h = {0.6}> { y = Clip(x, l, h) }",
        "g (float[N,30] x) => (float[N,30] y) <float h = {0.6}> { y = Clip(x, , h) }",
    ],
    "Sigmoid": ["g (float[N,3] x) => (float[N,3] y) { y = Sigmoid(x) }"],
    "HardSigmoid": [
        "g (float[N,30] x) => (float[N,30] y) { t = Mul(x, x) y = HardSigmoid<alpha = 0.3, beta = 0.4>(x) }",
    ],
    "Tanh": ["g (float[N,3] x) => (float[N,3] y) { y = Tanh(x) }"],
    "Exp": ["g (float[N,3] x) => (float[N,3] y) { y = Exp(x) }"],
    "Log": ["g (float[N,3] x) => (float[N,3] y) { e = Exp(x) y = Log(e) }"],
    "Sqrt": ["g (float[N,3] x) => (float[N,3] y) { e = Exp(x) y = Sqrt(e) }"],
    "ReduceMax": [
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}> { y = ReduceMax(x, a) }",
        "g (float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {2, -1}> { y = ReduceMax<keepdims = 0>(x, a) }",
        # Log-sum-exp pooling shifted by its maximum: what flows through the shift cancels.
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}>"
        " { p = ReduceMax(x, a) d = Sub(x, p) e = Exp(d) m = ReduceMean(e, a) l = Log(m) y = Add(p, l) }",
    ],
    "ReduceSum": [
        "g (float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {2, -1}> { y = ReduceSum<keepdims = 0>(x, a) }",
    ],
    "ReduceMean": [
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}> { y = ReduceMean(x, a) }",
        "g (float[N,3,4] x) => (float[N,4] y) <int64[1] a = {1}> { y = ReduceMean<keepdims = 0>(x, a) }",
    ],
    "GlobalAveragePool": ["g (float[N,3,4,5] x) => (float[N,3,1,1] y) { y = GlobalAveragePool(x) }"],
    "Reshape": [
        "g (float[N,6,4] x) => (float[N,2,3,4] y) <int64[4] s = {-1, 2, 3, 4}> { y = Reshape(x, s) }",
        "g (float[N,2,3,4] x) => (float[N,24] y) <int64[2] s = {-1, 24}> { y = Reshape(x, s) }",
        "g (float[N,3,4] x) => (float[N,2,6] y) <int64[3] s = {-1, 2, 6}> { y = Reshape(x, s) }",
    ],
    "Flatten": [
        "g (float[N,3,2,2] x) => (float[N,12] y) { y = Flatten(x) }",
        "g (float[N,3,4,5] x) => (float[N,3] y) { p = GlobalAveragePool(x) y = Flatten(p) }",
    ],
    "Squeeze": ["g (float[N,3,1,1] x) => (float[N,3] y) <int64[2] a = {2, 3}> { y = Squeeze(x, a) }"],
    "Unsqueeze": ["g (float[N,3] x) => (float[N,1,3] y) <int64[1] a = {1}> { y = Unsqueeze(x, a) }"],
    "Transpose": [
        "g (float[N,3,4,5] x) => (float[N,4,5,3] y) { y = Transpose<perm = [0, 2, 3, 1]>(x) }",
        "g (float[N,3,4,5] x) => (float[5,N,3,4] y) { y = Transpose<perm = [3, 0, 1, 2]>(x) }",
    ],
    "Concat": [
        "g (float[N,2,4] x0, float[N,3,4] x1) => (float[N,5,4] y) { y = Concat<axis = 1>(x0, x1) }",
        "g (float[N,2,4] x) => (float[N,4,4] y) { y = Concat<axis = -2>(x, x) }",
    ],
    "MatMul": [
        "g (float[N,3,4] x, float[4,5] w) => (float[N,3,5] y) { y = MatMul(x, w) }",
        "g (float[N,2,3,4] x0, float[N,2,4,5] x1) => (float[N,2,3,5] y) { y = MatMul(x0, x1) }",
        "g (float[5,3] w, float[N,3,4] x) => (float[N,5,4] y) { y = MatMul(w, x) }",
    ],
    "Gemm": [
        "g (float[N,4] x, float[5,4] w, float[5] wb) => (float[N,5] y) { y = Gemm<transB = 1, alpha = 0.5>(x, w, wb) }",
        "g (float[N,4] x, float[4,5] w) => (float[N,5] y) { y = Gemm(x, w) }",
    ],
    "Conv": [
        "g (float[N,4,6,7] x, float[5,4,3,3] w, float[5] wb) => (float[N,5,6,7] y)"
        " { y = Conv<pads = [1, 1, 1, 1]>(x, w, wb) }",
        "g (float[N,4,7,7] x, float[6,2,3,3] w) => (float[N,6,4,4] y)"
        " { y = Conv<group = 2, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) }",
        "g (float[N,4,8,8] x, float[4,1,3,3] w) => (float[N,4,4,4] y)"
        " { y = Conv<group = 4, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) }",
        "g (float[N,3,9,9] x, float[2,3,3,3] w) => (float[N,2,7,7] y)"
        " { y = Conv<dilations = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
        "g (float[N,3,5,5] x, float[2,3,1,1] w) => (float[N,2,1,1] y) { c = Conv(x, w) y = GlobalAveragePool(c) }",
        "g (float[N,3,5,5] x, float[2,3,1,1] w) => (float[N,2,3,3] y) { y = Conv<strides = [2, 2]>(x, w) }",
        "g (float[N,2,5,5] x, float[2,2,1,1] w) => (float[N,2,7,7] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
        "g (float[N,2,7,5] x, float[3,2,3,3] w) => (float[N,3,4,3] y)"
        ' { y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) }',
    ],
    "BatchNormalization": [
        "g (float[N,3,4,4] x, float[3] w, float[3] wb, float[3] wm, float[3] wpositive) => (float[N,3,4,4] y)"
        " { y = BatchNormalization<epsilon = 0.01>(x, w, wb, wm, wpositive) }",
    ],
    "AveragePool": [
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y) { y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y)"
        " { y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x) }",
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y)"
        " { y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x) }",
    ],
    "MaxPool": [
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y) { y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        "g (float[N,2,7,7] x) => (float[N,2,4,4] y)"
        " { y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }",
        "g (float[N,2,5,5] x) => (float[N,2,3,3] y) { y = MaxPool<kernel_shape = [3, 3]>(x) }",
    ],
}  # fmt: skip


def test_no_rule_is_untested():
    assert set(CASES) == set(VJPS)


@pytest.mark.parametrize(("operator", "text"), [(op, text) for op, texts in CASES.items() for text in texts])
def test_rule_agrees_with_the_directional_derivative(operator, text):
    rng = np.random.default_rng(0)
    model = _parse(text, rng)
    assert operator in {node.op_type for node in model.graph.node}
    output = _static(model.graph.output[0], batch=2)
    full = rng.normal(size=(SEEDS, *output)).astype(np.float32)
    # A seed that is constant over the batch is known at export time; one that is not is an input of the graph.
    _check(model, full, rng, known=False)
    if model.graph.output[0].type.tensor_type.shape.dim[0].dim_param:
        _check(model, full[:, :1], rng, known=True)


def _check(model: onnx.ModelProto, seed: np.ndarray, rng: np.random.Generator, known: bool) -> None:
    names = [value.name for value in model.graph.input]
    shapes = [_static(value, batch=2) for value in model.graph.input]
    inputs = {name: rng.normal(size=shape) for name, shape in zip(names, shapes, strict=True)}
    found = _gradients(model, seed, inputs, known)
    forward = ReferenceEvaluator(_widened(model))
    directions = {name: rng.normal(size=shape) for name, shape in zip(names, shapes, strict=True)}

    def value(step: float) -> np.ndarray:
        moved = {name: x + step * directions[name] for name, x in inputs.items()}
        (result,) = forward.run(None, moved)
        return (seed.astype(np.float64) * result).reshape(SEEDS, -1).sum(axis=1)

    expected = (value(STEP) - value(-STEP)) / (2 * STEP)
    actual = sum(
        (np.broadcast_to(g, (SEEDS, *inputs[name].shape)) * directions[name]).reshape(SEEDS, -1).sum(axis=1)
        for name, g in found.items()
    )
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


def _gradients(model: onnx.ModelProto, seed: np.ndarray, inputs: dict, known: bool) -> dict[str, np.ndarray]:
    """The gradients of the inputs, evaluated in float64; axes of size 1 are constant."""
    graph_model = ir.from_proto(model)
    graph = graph_model.graph
    emit, targets = Emitter(graph), list(graph.inputs)
    if known:
        start = emit.constant(seed)
    else:
        value = ir.Value(name="seed", shape=ir.Shape([SEEDS, *graph.outputs[0].shape]))
        value.dtype = ir.DataType.FLOAT
        graph.inputs.append(value)
        start, inputs = emit.of(value), {**inputs, "seed": seed.astype(np.float64)}
    found = gradients(emit, graph.outputs[0], targets, start)
    results = {}
    for value, tensor in zip(targets, found, strict=True):
        if tensor.constant:
            results[value.name] = tensor.array
        else:
            graph.outputs.append(tensor.value)
            results[value.name] = tensor.value.name
    proto = _widened(ir.to_proto(graph_model))
    evaluator = ReferenceEvaluator(proto, new_ops=[ConvTranspose])
    wanted = [name for name in results.values() if isinstance(name, str)]
    values = dict(zip(wanted, evaluator.run(wanted, inputs), strict=True)) if wanted else {}
    return {name: values[r] if isinstance(r, str) else r for name, r in results.items()}


def _parse(text: str, rng: np.random.Generator) -> onnx.ModelProto:
    """Parse a graph, turn its `w` inputs into random constants, and infer shapes."""
    model = onnx.parser.parse_model(HEADER + text)
    for value in [v for v in model.graph.input if v.name.startswith("w")]:
        model.graph.input.remove(value)
        array = rng.normal(size=_static(value, batch=2)).astype(np.float32)
        if "positive" in value.name:
            array = np.abs(array) + np.float32(0.5)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _static(value: onnx.ValueInfoProto, batch: int) -> tuple[int, ...]:
    return tuple(d.dim_value or batch for d in value.type.tensor_type.shape.dim)


def _widened(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every float32 is a float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.value_info[:]
    for tensor in wide.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*wide.graph.input, *wide.graph.output):
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.DOUBLE
    return wide
