"""ONNX files that cannot be explained: each is refused in one line that names the thing and the remedy."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from export.onnx_graphs import BODY, CONV, DESCRIPTION, compile_and_compare, graph, integers, open_file
from onnx import numpy_helper

from xrt.export.autodiff.table import VJPS
from xrt.export.compile import Request, compile_source
from xrt.export.sources import Description, OnnxSource, open_source
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import ModelError, UsageError, XrtError


def test_half_precision_inside(tmp_path):
    body = f"xh = Cast <to=10> (x) wh = Cast <to=10> (w) c = {CONV} (xh, wh) r = Cast <to=1> (c) y = GlobalMaxPool (r)"
    with pytest.raises(ModelError, match="'xh' is float16: export the model in float32"):
        open_file(graph(body), tmp_path)


_TAIL = "g = GlobalAveragePool (r) f = Flatten <axis=1> (g)"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            f"xd = Cast <to=11> (x) wd = Cast <to=11> (w) c = {CONV} (xd, wd) d = Cast <to=1> (c) r = Relu (d) {_TAIL} "
            "y = Gemm <transB=1> (f, h, z)",
            "'xd' is double, and ONNX Runtime refuses the graph: .*: export the model in float32",
        ),
        (
            f"c = {CONV} (x, w) r = Relu (c) {_TAIL} d = Cast <to=11> (f) e = Mul (d, d) s = Cast <to=1> (e) "
            "y = Gemm <transB=1> (s, h, z)",
            "'d' is double, between the target layer and the logits, .*: compute there in float32",
        ),
        (
            f"c = {CONV} (x, w) q = QuantizeLinear (c, step, zero) d = DequantizeLinear (q, step, zero) r = Relu (d) "
            f"{_TAIL} y = Gemm <transB=1> (f, h, z)",
            "quantised already: QuantizeLinear at 'q' rounds what is computed .*; export the float model",
        ),
    ],
)
def test_other_types_inside(tmp_path, body, message):
    model = graph(body)
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    with pytest.raises(ModelError, match=message):
        compile_source(open_file(model, tmp_path))


def test_a_tensor_that_nothing_gives(tmp_path):
    with pytest.raises(ModelError, match="the graph is invalid: Add reads 'nothing', which nothing gives"):
        open_file(graph(BODY + "y = Add (l, nothing)"), tmp_path)


def test_a_cast_to_a_type_in_words(tmp_path):
    """The form up to opset 5, which ONNX's converter cannot convert."""
    model = graph(BODY + "y = Cast (l)", opset=5, ir=3, weights_as_inputs=True)
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("to", "FLOAT"))
    with pytest.raises(ModelError, match="the graph is of opset 5 and cannot be converted to 18: .*Cast"):
        open_file(model, tmp_path)


@pytest.mark.parametrize(
    "end",
    [
        "e = Exp (l) s = ReduceSum <keepdims=1> (e, one) y = Div (e, s)",
        "s = Softmax <axis=1> (l) y = Log (s)",
        "s = Sigmoid (l) y = Mul (s, s)",
    ],
)
def test_probabilities_of_another_making(tmp_path, end):
    with pytest.raises(ModelError, match="'y' holds probabilities .*export a model that returns"):
        compile_source(open_file(integers(graph(BODY + end), one=[1]), tmp_path))


def test_a_softmax_over_something_else_is_refused(tmp_path):
    model = integers(graph(BODY + "u = Unsqueeze (l, two) y = Softmax <axis=2> (u)"), two=[2])
    with pytest.raises(ModelError, match=r"the softmax after 'u', \[n, 5, 1\], is not over its classes"):
        compile_source(open_file(model, tmp_path))


def test_a_built_in_batch_that_cannot_be_freed(tmp_path):
    body = f"""
        c = {CONV} (x, w) r = Relu (c) g = GlobalAveragePool (r) f = Flatten (g)
        t = Concat <axis=1> (f, token) y = Slice (t, start, end, one)
    """
    model = integers(graph(body, signature="(float[2,1,64,64] x) => (float y)"), start=[0], end=[5], one=[1])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 6), np.float32), "token"))
    with pytest.raises(ModelError, match=r"does not run on 2 and 3 images at once .*dynamic batch"):
        compile_source(open_file(model, tmp_path))


TWO = "(float[n,1,64,64] x) => (float l, float s)"


def test_two_outputs(tmp_path):
    model = graph(BODY + "s = Sigmoid (l)", signature=TWO)
    with pytest.raises(UsageError, match=r"2 outputs: say which are the logits with --output l\|s"):
        open_file(model, tmp_path)
    with pytest.raises(UsageError, match="no output 'z': it has l, s"):
        open_file(model, tmp_path, Description(output="z"))
    for name in ("l", "s"):
        source, *_ = compile_and_compare(model, tmp_path, Description(mean=(0.5,), std=(0.25,), output=name))
        assert isinstance(source, OnnxSource)
        assert source.output == name


def test_an_output_that_does_not_read_the_image(tmp_path):
    model = graph("y = Relu (z) t = Identity (x)", signature="(float[n,1,64,64] x) => (float y)")
    with pytest.raises(ModelError, match="output 'y' does not depend on the image"):
        open_file(model, tmp_path)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("(float[n,1,64,64] x, float[n,1,64,64] side) => (float y)", r"one image input, it has 2 \(x, side\)"),
        (
            "(float[n,1,64,64] x, float[1,1,1,3] mean, float[1] eps) => (float y)",
            r"it has 3 \(x, mean, eps\); mean is no image: .*Keras's .* remove that layer and state --mean and --std",
        ),
        ("(float[n,64,64] x) => (float y)", r"nor \[n, height, width, channels\]"),
        ("(float[n,c,64,64] x) => (float y)", r"neither \[n, channels, height, width\]"),
        ("(float[n,4096] x) => (float y)", r"has the shape \['n', 4096\], neither \[n, channels"),
        ("(float16[n,1,64,64] x) => (float y)", "input 'x' is float16; export the model with a float32 input"),
        ("(double[n,1,64,64] x) => (float y)", "input 'x' is double"),
        ("(uint8[n,1,64,64] x) => (float y)", "input 'x' is uint8"),
    ],
)
def test_inputs_that_are_no_image(tmp_path, signature, message):
    with pytest.raises(ModelError, match=message):
        open_file(graph(BODY + "y = Identity (l)", signature=signature), tmp_path)


def test_dynamic_spatial_sizes(tmp_path):
    model = graph(BODY + "y = Identity (l)", signature="(float[n,1,height,width] x) => (float y)")
    with pytest.raises(UsageError, match="takes images of any size: say which with --input-size"):
        open_file(model, tmp_path)
    source, explained_model, _ = compile_and_compare(
        model, tmp_path, Description(input_size=(64, 48), mean=(0.5,), std=(0.25,))
    )
    assert (source.preprocessing.height, source.preprocessing.width) == (64, 48)
    assert (explained_model.graph.cams[0].height, explained_model.graph.cams[0].width) == (8, 6)


@pytest.mark.parametrize(("size", "accepted"), [("64,64", "64 × 64"), ("64,w", "64 × any")])
def test_a_fixed_size_cannot_be_changed(tmp_path, size, accepted):
    model = graph(BODY + "y = Identity (l)", signature=f"(float[n,1,{size}] x) => (float y)")
    with pytest.raises(UsageError, match=f"takes images of {accepted} only: --input-size cannot change that"):
        open_file(model, tmp_path, Description(input_size=(32, 32)))


def test_weights_that_are_not_finite(tmp_path):
    model = graph(BODY + "y = Identity (l)")
    tensor = next(t for t in model.graph.initializer if t.name == "h")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(values, "h"))
    with pytest.raises(ModelError, match="weights are not finite: h"):
        open_file(model, tmp_path)
    values[0, 0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(values, "h"))
    with pytest.raises(ModelError, match="the output is not finite"):
        compile_source(open_file(model, tmp_path))


def test_an_infinity_that_is_meant(tmp_path):
    """The bound of a clamp, and a value that nothing reads."""
    model = graph(BODY + "y = Max (l, low)")
    for name in ("low", "best_loss"):
        model.graph.initializer.append(numpy_helper.from_array(np.array([-np.inf], np.float32), name))
    compile_and_compare(model, tmp_path)


def test_an_output_that_is_not_finite(tmp_path):
    with pytest.raises(ModelError, match="the output is not finite"):
        compile_source(
            open_file(graph(BODY + "m = Mul (l, l) s = Sub (m, m) q = Div (l, s) y = Identity (q)"), tmp_path)
        )


@pytest.mark.parametrize("content", [b"", b"no protobuf at all\n" * 9, b"\x80\x04K\x01."])
def test_a_file_that_is_no_onnx(tmp_path, content):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.onnx is no ONNX file"):
        open_source(str(tmp_path / "model.onnx"))


def test_a_truncated_file(tmp_path):
    data = graph(BODY + "y = Identity (l)").SerializeToString()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "model.onnx").write_bytes(data[: int(share * len(data))])
        with pytest.raises(ModelError, match=r"model\.onnx is no ONNX file"):
            open_source(str(tmp_path / "model.onnx"))


def test_external_data(tmp_path):
    model = graph(BODY + "y = Identity (l)")
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    assert open_source(str(tmp_path / "model.onnx"), DESCRIPTION).logits == 5
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"the weights beside .*model\.onnx cannot be read: .*model\.data"):
        open_source(str(tmp_path / "model.onnx"), DESCRIPTION)


def test_weights_are_not_given_twice(tmp_path):
    with pytest.raises(UsageError, match="holds its own weights: leave out --weights"):
        open_file(graph(BODY + "y = Identity (l)"), tmp_path, Description(weights="w.pth"))


@pytest.mark.parametrize(
    ("tangle", "message"),
    [
        (
            "m = ReduceMean <keepdims=1> (l, zero) y = Sub (l, m)",
            "with the images beside it in the batch: .*evaluation mode",
        ),
        (
            "b, p, q = BatchNormalization <training_mode=1> (l, z, z, z, u) y = Identity (b)",
            "batch normalisation 'b' is in training mode: it normalises over the batch",
        ),
    ],
)
def test_images_must_not_depend_on_each_other(tmp_path, tangle, message):
    model = integers(graph(BODY + tangle), zero=[0])
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "u"))
    with pytest.raises(ModelError, match=message):
        compile_source(open_file(model, tmp_path))


@pytest.mark.parametrize(
    ("body", "extra", "message"),
    [
        (
            "hot = Hardmax (l) y = Add (l, hot)",
            "",
            r"no gradient rule for operator Hardmax \(node .*--target-layer",
        ),
        (
            "l2 = com.microsoft.QuickGelu (l) y = Identity (l2)",
            ', "com.microsoft" : 1',
            r"no gradient rule for operator com\.microsoft\.QuickGelu",
        ),
    ],
)
def test_an_operator_without_a_rule(tmp_path, body, extra, message):
    model = integers(graph(BODY + body, extra=extra), axis=1)
    with pytest.raises(ModelError, match=message) as raised:
        compile_source(open_file(model, tmp_path), Request(("r",)))
    assert "\n" not in str(raised.value)


def test_an_operator_that_no_runtime_has(tmp_path):
    model = graph(BODY + "y = acme.Secret (l)", extra=', "acme" : 1')
    with pytest.raises(XrtError, match="acme.*Secret") as raised:
        compile_source(open_file(model, tmp_path))
    assert "\n" not in str(raised.value)


def test_a_model_without_a_spatial_layer(tmp_path):
    body = "f = Flatten <axis=1> (x) y = MatMul (f, dense)"
    model = graph(body)
    dense = np.random.default_rng(0).normal(size=(4096, 5)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(dense, "dense"))
    with pytest.raises(ModelError, match="no spatial layer .*--target-layer"):
        compile_source(open_file(model, tmp_path))


@pytest.mark.parametrize("operator", ["Gemm", "GlobalAveragePool"])
def test_a_wrong_gradient_is_caught(tmp_path, monkeypatch, operator):
    """The proof of the reference fails when a rule is off by one part in a hundred."""
    right = VJPS[operator]

    def wrong(call):
        factor = call.emit.constant(1.01, "float32")
        return [g if g is None else call.emit("Mul", g, factor, shape=g.shape) for g in right(call)]

    monkeypatch.setitem(VJPS, operator, wrong)
    source = open_file(graph(BODY + "y = Identity (l)"), tmp_path)
    explained_model = compile_source(source, Request(("r",)))
    with pytest.raises(ModelError, match="the gradient at 'r' differs from a float64 directional derivative by 0.01"):
        explained_model.reference.outputs(phantom_inputs(2, 0, source.preprocessing).images)
