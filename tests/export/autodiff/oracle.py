"""The oracle for gradient rules: the directional derivative of the same graph, in float64.

Graphs are written as text. Inputs that begin with `w` become constants (positive ones where the name says so); those
that begin with `x` carry gradients. The emitted graph is evaluated twice: by ONNX's reference evaluator after
everything in it was widened to float64, and unchanged by ONNX Runtime, which must accept every operator in it.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.parser
import onnx.shape_inference
import onnx_ir as ir
import onnxruntime

from xrt.export.autodiff import backward
from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.references.float64 import Float64Graph

SEEDS, BATCH = 3, 2
# Small enough that no input is within a step of a kink; float64 leaves nine digits of the difference.
STEP = 1e-7
# Constants fold in float32, as they do in a real export, so the two sides agree to its rounding and no better.
TOLERANCE = 3e-5
# A few hundred float32 additions of numbers near one, some of which cancel.
FLOAT32_TOLERANCE = 1e-4
# Derivatives that vanish identically, as of a mean after a normalisation, are compared with numbers near one.
SCALE_FLOOR = 0.1

# Not accepted by all of ONNX Runtime, OpenVINO, TensorRT 10 and 11, or slow in one of them.
AVOIDED = {"ScatterND", "ScatterElements", "GridSample", "NonZero", "CumSum", "Loop", "If", "ArgMax", "MaxUnpool"}


def opset(version: int) -> str:
    """The header of a graph in an operator set; graphs without one are in 18."""
    return f'<ir_version: 9, opset_import: ["" : {version}]>\n'


def parse(text: str, rng: np.random.Generator) -> onnx.ModelProto:
    """Parse a graph, turn its `w` inputs into random constants, and infer shapes."""
    model = onnx.parser.parse_model(text if text.startswith("<ir_version") else opset(18) + text)
    for value in [v for v in model.graph.input if v.name.startswith("w")]:
        model.graph.input.remove(value)
        array = rng.normal(size=static(value)).astype(np.float32)
        if "positive" in value.name:
            array = np.abs(array) + np.float32(0.5)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def check(model: onnx.ModelProto, rng: np.random.Generator, constant_axes: Collection[int] = ()) -> None:
    """Compare the gradients of a graph with its directional derivative, for cotangents constant along `constant_axes`.

    Twice: for a seed that is an input of the graph, and for one that is constant over the batch and so known at export
    time.
    """
    shapes = {value.name: static(value) for value in model.graph.input}
    inputs = {name: rng.normal(size=shape).astype(np.float32).astype(np.float64) for name, shape in shapes.items()}
    directions = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    forward = Float64Graph(model)
    name = model.graph.output[0].name

    def value(step: float) -> np.ndarray:
        return forward.run({name: x + step * directions[name] for name, x in inputs.items()}, [name])[0]

    slope = (value(STEP) - value(-STEP)) / (2 * STEP)
    assert slope.shape == static(model.graph.output[0])
    batches = [i for i, d in enumerate(model.graph.output[0].type.tensor_type.shape.dim) if d.dim_param]
    for constant_seed in (False, True):
        constant = {*constant_axes, *batches} if constant_seed else set(constant_axes)
        shape = [1 if i in constant else d for i, d in enumerate(slope.shape)]
        seed = rng.normal(size=(SEEDS, *shape)).astype(np.float32)
        expected = (seed.astype(np.float64) * slope).reshape(SEEDS, -1).sum(axis=1)
        wide, narrow, forwards = evaluate(model, seed, inputs, constant_seed)
        actual = sum(
            (np.broadcast_to(g, (SEEDS, *shapes[name])) * directions[name]).reshape(SEEDS, -1).sum(axis=1)
            for name, g in wide.items()
        )
        scale = max(np.abs(expected).max(), SCALE_FLOOR)
        np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE * scale)
        for g, other in [*((wide[n], narrow[n]) for n in wide), (value(0), forwards)]:
            scale = max(np.abs(g).max(initial=0), SCALE_FLOOR)
            np.testing.assert_allclose(other, g, rtol=0, atol=FLOAT32_TOLERANCE * scale)


def evaluate(
    model: onnx.ModelProto, seed: np.ndarray, inputs: dict[str, np.ndarray], constant_seed: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """The gradients of the inputs in float64 and in ONNX Runtime's float32, and its forward output."""
    proto, gradients = differentiate(model, seed, constant_seed)
    feeds = inputs if constant_seed else {**inputs, "seed": seed.astype(np.float64)}
    value_names = {
        name: tensor.value.name for name, tensor in gradients.items() if tensor.value and not tensor.constant
    }
    constant = {name: tensor.array for name, tensor in gradients.items() if tensor.constant}
    wide = (
        dict(zip(value_names, Float64Graph(proto).run(feeds, list(value_names.values())), strict=True))
        if value_names
        else {}
    )
    for name, g in (wide | constant).items():
        sizes = tuple(d if isinstance(d, int) else d.multiple * BATCH for d in gradients[name].shape)
        assert g.shape == sizes, f"the emitter took the shape of the gradient for {sizes}, it is {g.shape}"
    forward = model.graph.output[0].name
    output, *narrow = session(proto).run(
        [forward, *value_names.values()], {name: x.astype(np.float32) for name, x in feeds.items()}
    )
    return wide | constant, dict(zip(value_names, narrow, strict=True)) | constant, output


def differentiate(
    model: onnx.ModelProto, seed: np.ndarray, constant_seed: bool
) -> tuple[onnx.ModelProto, dict[str, Tensor]]:
    """The graph with the gradients of its inputs as further outputs."""
    graph_model = ir.from_proto(model)
    graph = graph_model.graph
    emit, before = Emitter(graph), len(list(graph))
    targets = [value for value in graph.inputs if value.dtype == ir.DataType.FLOAT]
    if constant_seed:
        start = emit.constant(seed)
    else:
        sizes = [1 if n == 1 else d for n, d in zip(seed.shape[1:], graph.outputs[0].shape, strict=True)]
        value = ir.Value(name="seed", shape=ir.Shape([seed.shape[0], *sizes]), type=ir.TensorType(ir.DataType.FLOAT))
        graph.inputs.append(value)
        start = emit.of(value)
    gradients = backward(emit, graph.outputs[0], targets, start)
    # A rule may return the seed itself, and an input cannot be an output.
    gradients = [emit("Identity", tensor) if tensor.value in graph.inputs else tensor for tensor in gradients]
    operators = {node.op_type for node in list(graph)[before:]}
    assert not operators & AVOIDED, f"emitted {operators & AVOIDED}"
    for tensor in gradients:
        if tensor.value is not None and not tensor.constant:
            tensor.value.dtype = ir.DataType.FLOAT
            if tensor.value not in graph.outputs:
                graph.outputs.append(tensor.value)
    return ir.to_proto(graph_model), {v.name or "": t for v, t in zip(targets, gradients, strict=True)}


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """ONNX Runtime on one thread, silent."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def static(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The sizes of a graph's input or output at the batch size used here."""
    return tuple(d.dim_value if d.HasField("dim_value") else BATCH for d in value.type.tensor_type.shape.dim)
