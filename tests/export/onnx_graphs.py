"""ONNX files written as text, and the checks of every one that is explained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
from onnx import numpy_helper

from xrt.export.compile import Request, compile_source
from xrt.export.sources import Description, open_source
from xrt.runtime.certification.inputs import phantom_inputs

DESCRIPTION = Description(mean=(0.5,), std=(0.25,))
CONV = "Conv <kernel_shape=[3,3], strides=[8,8], pads=[1,1,1,1]>"
BODY = f"""
    c = {CONV} (x, w)
    r = Relu (c)
    g = GlobalAveragePool (r)
    f = Flatten <axis=1> (g)
    l = Gemm <transB=1> (f, h, z)
"""
WEIGHTS = {
    "w": (6, 1, 3, 3), "h": (5, 6), "z": (5,), "scale": (6,), "shift": (6,), "mean": (6,), "variance": (6,),
    "k": (5, 6, 1, 1), "w3": (6, 3, 3, 3), "off": (1, 18, 6, 6),
}  # fmt: skip


def graph(
    body: str, *, signature="(float[n,1,64,64] x) => (float y)", opset=18, ir=8, extra="", weights_as_inputs=False
):
    """A model as text, with those of the `WEIGHTS` that it reads; with `weights_as_inputs` they are also inputs."""
    model = onnx.parser.parse_model(
        f'<ir_version: {ir}, opset_import: ["" : {opset}{extra}]> m {signature} {{ {body} }}'
    )
    _forget_output_shapes(model.graph)
    input_names = {name for node in model.graph.node for name in node.input}
    rng = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        values = rng.uniform(0.5, 1.5, shape) if name == "variance" else rng.normal(size=shape)
        if name in input_names:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
            if weights_as_inputs:
                model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return model


def _forget_output_shapes(part: onnx.GraphProto) -> None:
    """The text `float y` is a number, not a tensor of any shape; the same in the branches of an If."""
    for output in part.output:
        output.type.tensor_type.ClearField("shape")
    for attribute in [a for node in part.node for a in node.attribute]:
        if attribute.type == onnx.AttributeProto.GRAPH:
            _forget_output_shapes(attribute.g)


def integers(model, **arrays):
    for name, values in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return model


def open_file(model, folder: Path, description=DESCRIPTION):
    onnx.save(model, folder / "model.onnx")
    return open_source(str(folder / "model.onnx"), description)


def compile_and_compare(model, folder: Path, description=DESCRIPTION, request=Request()):  # noqa: B008 (it is immutable)
    """The compiled model, its logits compared with the file's own and its gradients proved, on three images."""
    source = open_file(model, folder, description)
    explained_model = compile_source(source, request)
    images = phantom_inputs(3, 0, source.preprocessing).images
    answers = explained_model.reference.outputs(images)
    session = onnxruntime.InferenceSession(explained_model.data, providers=["CPUExecutionProvider"])
    logits, cams = session.run(["logits", "cams"], {"image": images})
    # Both fp32, of a few dozen operations.
    np.testing.assert_allclose(logits, answers.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cams, answers.cams["cams"], rtol=1e-3, atol=1e-5 * cams.max())
    assert cams.max() > 0
    return source, explained_model, logits
