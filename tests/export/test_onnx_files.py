"""ONNX files of any exporter and age: what becomes an explained graph, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper

from xrt.export.autodiff.table import VJPS
from xrt.export.compilation import Request, compile_source
from xrt.export.pipeline import export_source
from xrt.export.sources import Description, open_source
from xrt.runtime.errors import ModelError, UsageError, XrtError
from xrt.runtime.gate.evidence import phantom_inputs
from xrt.runtime.opening import open_session

TOLD = Description(mean=(0.5,), std=(0.25,))
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
    "k": (5, 6, 1, 1), "w3": (6, 3, 3, 3),
}  # fmt: skip


def graph(body: str, *, face="(float[n,1,64,64] x) => (float y)", opset=18, ir=8, extra="", listed=False):
    """A model as text, with those of the `WEIGHTS` that it reads; `listed` also lists them as inputs."""
    model = onnx.parser.parse_model(f'<ir_version: {ir}, opset_import: ["" : {opset}{extra}]> m {face} {{ {body} }}')
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    read = {name for node in model.graph.node for name in node.input}
    rng = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        values = rng.uniform(0.5, 1.5, shape) if name == "variance" else rng.normal(size=shape)
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
            if listed:
                model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return model


def integers(model, **arrays):
    for name, values in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    return model


def opened(model, folder: Path, description=TOLD):
    onnx.save(model, folder / "model.onnx")
    return open_source(str(folder / "model.onnx"), description)


def explained(model, folder: Path, description=TOLD, request=Request()):  # noqa: B008 (it is immutable)
    """The compiled model, its logits compared with the file's own and its gradients proved, on three images."""
    source = opened(model, folder, description)
    compiled = compile_source(source, request)
    images = phantom_inputs(3, 0, source.preprocessing).images
    answers = compiled.reference.answer(images)
    ours = onnxruntime.InferenceSession(compiled.data, providers=["CPUExecutionProvider"])
    logits, cams = ours.run(["logits", "cams"], {"image": images})
    # Both fp32, of a few dozen operations.
    np.testing.assert_allclose(logits, answers.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(cams, answers.cams["cams"], rtol=1e-3, atol=1e-5 * cams.max())
    assert cams.max() > 0
    return source, compiled, logits


def test_a_file_of_2018(tmp_path):
    """Opset 9 and IR 3: weights are listed as inputs, the batch is 1, and the head is a convolution."""
    body = f"""
        c = {CONV} (x, w)
        b = BatchNormalization <epsilon=0.00001> (c, scale, shift, mean, variance)
        r = Relu (b)
        g = GlobalAveragePool (r)
        y = Conv <kernel_shape=[1,1]> (g, k)
    """
    model = graph(body, face="(float[1,1,64,64] x) => (float y)", opset=9, ir=3, listed=True)
    source, compiled, logits = explained(model, tmp_path)
    assert source.logits == 5
    assert logits.shape == (3, 5)
    assert compiled.graph.cams[0].layer == "r"
    emitted = onnx.load_from_string(compiled.data)
    assert (emitted.opset_import[0].version, [i.name for i in emitted.graph.input]) == (18, ["image"])
    assert 4 <= emitted.ir_version <= 10


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 17, 18, 20, 21, 22])
def test_opsets(tmp_path, opset):
    squeeze = {True: "q = Squeeze <axes=[2,3]> (g)", False: "q = Squeeze (g, axes)"}[opset < 13]
    body = f"""
        c = {CONV} (x, w)
        b = BatchNormalization <epsilon=0.00001> (c, scale, shift, mean, variance)
        r = Relu (b)
        p = MaxPool <kernel_shape=[2,2], strides=[1,1]> (r)
        g = AveragePool <kernel_shape=[7,7]> (p)
        {squeeze}
        d = Dropout (q)
        y = Gemm <transB=1> (d, h, z)
    """
    model = graph(body, opset=opset, ir=3 if opset < 9 else 8, listed=opset < 9)
    model = integers(model, axes=[2, 3]) if opset >= 13 else model
    explained(model, tmp_path)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_came_after_opset_18(tmp_path, approximate):
    body = f'c = {CONV} (x, w) r = Gelu <approximate="{approximate}"> (c) g = GlobalAveragePool (r) y = Conv (g, k)'
    explained(graph(body, opset=20), tmp_path, request=Request(("c",)))


def test_names_of_the_bundle_may_be_used_in_the_file(tmp_path):
    body = f"image = {CONV} (x, w) cams = Relu (image) logits = GlobalAveragePool (cams) y = Conv (logits, k)"
    _, compiled, _ = explained(graph(body), tmp_path)
    assert compiled.graph.cams[0].tensor == "file/cams"


def test_half_precision_inside(tmp_path):
    body = f"xh = Cast <to=10> (x) wh = Cast <to=10> (w) c = {CONV} (xh, wh) r = Cast <to=1> (c) y = GlobalMaxPool (r)"
    with pytest.raises(ModelError, match="'xh' is float16: export the model in float32"):
        opened(graph(body), tmp_path)


@pytest.mark.parametrize(
    ("end", "task", "opset"),
    [
        ("y = Softmax <axis=1> (l)", "multiclass", 18),
        ("y = Softmax <axis=1> (l)", "multiclass", 9),
        ("y = Softmax (l)", "multiclass", 11),
        ("y = LogSoftmax <axis=1> (l)", "multiclass", 18),
        ("y = Sigmoid (l)", "multilabel", 18),
        ("s = Softmax <axis=1> (l) y = Reshape (s, flat)", "multiclass", 18),
        ("s = Sigmoid (l) i = Identity (s) y = Unsqueeze (i, two)", "multilabel", 18),
        ("y = Identity (l)", None, 18),
    ],
)  # fmt: skip
def test_a_final_activation_is_peeled_off(tmp_path, end, task, opset):
    model = integers(graph(BODY + end, opset=opset), flat=[-1, 5], two=[2])
    source, _, logits = explained(model, tmp_path)
    assert source.task == (task or "multilabel")
    assert (logits < 0).any() and (np.abs(logits.sum(1) - 1) > 0.01).any(), "logits, not probabilities"
    assert any("--task" in note for note in source.notes) == (task is None)


def test_a_softmax_over_something_else_is_refused(tmp_path):
    model = integers(graph(BODY + "u = Unsqueeze (l, two) y = Softmax <axis=2> (u)"), two=[2])
    with pytest.raises(ModelError, match=r"the softmax behind 'u', \[n, 5, 1\], is not over its classes"):
        compile_source(opened(model, tmp_path))


def test_logits_with_their_classes_last(tmp_path):
    """[n, 1, 1, K], as converters from TensorFlow leave them."""
    source, _, logits = explained(integers(graph(BODY + "y = Reshape (l, to)"), to=[-1, 1, 1, 5]), tmp_path)
    assert (source.logits, logits.shape) == (5, (3, 5))


@pytest.mark.parametrize("to", [[1, -1], [1, 6], [-1, 6], [0, 6]])
def test_a_batch_of_one_is_made_dynamic(tmp_path, to):
    body = f"c = {CONV} (x, w) r = Relu (c) g = GlobalAveragePool (r) f = Reshape (g, to) y = Gemm <transB=1> (f, h, z)"
    model = integers(graph(body, face="(float[1,1,64,64] x) => (float y)"), to=to)
    _, compiled, logits = explained(model, tmp_path)
    assert logits.shape == (3, 5)
    assert onnx.load_from_string(compiled.data).graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_a_built_in_batch_that_cannot_be_freed(tmp_path):
    body = f"""
        c = {CONV} (x, w) r = Relu (c) g = GlobalAveragePool (r) f = Flatten (g)
        t = Concat <axis=1> (f, token) y = Slice (t, start, end, one)
    """
    model = integers(graph(body, face="(float[2,1,64,64] x) => (float y)"), start=[0], end=[5], one=[1])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((2, 6), np.float32), "token"))
    with pytest.raises(ModelError, match=r"does not run on 2 and 3 images at once .*dynamic batch"):
        compile_source(opened(model, tmp_path))


TWO = "(float[n,1,64,64] x) => (float l, float s)"


def test_two_outputs(tmp_path):
    model = graph(BODY + "s = Sigmoid (l)", face=TWO)
    with pytest.raises(UsageError, match=r"2 outputs: say which are the logits with --output l\|s"):
        opened(model, tmp_path)
    with pytest.raises(UsageError, match="no output 'z': it has l, s"):
        opened(model, tmp_path, Description(output="z"))
    for name in ("l", "s"):
        source, *_ = explained(model, tmp_path, Description(mean=(0.5,), std=(0.25,), output=name))
        assert source.onnx_file is not None
        assert source.onnx_file.output == name


def test_an_output_that_does_not_read_the_image(tmp_path):
    model = graph("y = Relu (z) t = Identity (x)", face="(float[n,1,64,64] x) => (float y)")
    with pytest.raises(ModelError, match="output 'y' does not depend on the image"):
        opened(model, tmp_path)


@pytest.mark.parametrize(
    ("face", "message"),
    [
        ("(float[n,1,64,64] x, float[n,1,64,64] side) => (float y)", r"one image input, it has 2 \(x, side\)"),
        ("(float[n,64,64,1] x) => (float y)", "channels last: export it with channels first"),
        ("(float[n,64,64,3] x) => (float y)", "channels last"),
        ("(float[n,c,64,64] x) => (float y)", r"not \[n, channels, height, width\]"),
        ("(float[n,4096] x) => (float y)", r"has the shape \['n', 4096\], not \[n, channels"),
        ("(float16[n,1,64,64] x) => (float y)", "input 'x' is float16; export the model with a float32 input"),
        ("(double[n,1,64,64] x) => (float y)", "input 'x' is double"),
        ("(uint8[n,1,64,64] x) => (float y)", "input 'x' is uint8"),
    ],
)
def test_inputs_that_are_no_image(tmp_path, face, message):
    with pytest.raises(ModelError, match=message):
        opened(graph(BODY + "y = Identity (l)", face=face), tmp_path)


def test_dynamic_spatial_sizes(tmp_path):
    model = graph(BODY + "y = Identity (l)", face="(float[n,1,height,width] x) => (float y)")
    with pytest.raises(UsageError, match="takes images of any size: say which with --input-size"):
        opened(model, tmp_path)
    source, compiled, _ = explained(model, tmp_path, Description(input_size=(64, 48), mean=(0.5,), std=(0.25,)))
    assert (source.preprocessing.height, source.preprocessing.width) == (64, 48)
    assert (compiled.graph.cams[0].height, compiled.graph.cams[0].width) == (8, 6)


@pytest.mark.parametrize(("face", "only"), [("64,64", "64 × 64"), ("64,w", "64 × any")])
def test_a_fixed_size_cannot_be_changed(tmp_path, face, only):
    model = graph(BODY + "y = Identity (l)", face=f"(float[n,1,{face}] x) => (float y)")
    with pytest.raises(UsageError, match=f"takes images of {only} only: --input-size cannot change that"):
        opened(model, tmp_path, Description(input_size=(32, 32)))


def test_colour(tmp_path):
    model = graph(BODY.replace("w)", "w3)") + "y = Identity (l)", face="(float[n,3,64,64] x) => (float y)")
    source, *_ = explained(model, tmp_path, Description())
    assert source.mean == (0.485, 0.456, 0.406)
    assert any("normalisation is taken to be mean 0.485" in note for note in source.notes)


def test_weights_that_are_not_finite(tmp_path):
    model = graph(BODY + "y = Identity (l)")
    tensor = next(t for t in model.graph.initializer if t.name == "h")
    values = numpy_helper.to_array(tensor).copy()
    values[0, 0] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(values, "h"))
    with pytest.raises(ModelError, match="weights are not finite: h"):
        opened(model, tmp_path)


def test_an_output_that_is_not_finite(tmp_path):
    with pytest.raises(ModelError, match="the output is not finite"):
        compile_source(opened(graph(BODY + "m = Mul (l, l) s = Sub (m, m) q = Div (l, s) y = Identity (q)"), tmp_path))


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
    assert open_source(str(tmp_path / "model.onnx"), TOLD).logits == 5
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"the weights beside .*model\.onnx cannot be read: .*model\.data"):
        open_source(str(tmp_path / "model.onnx"), TOLD)


def test_weights_are_not_given_twice(tmp_path):
    with pytest.raises(UsageError, match="holds its own weights: leave out --weights"):
        opened(graph(BODY + "y = Identity (l)"), tmp_path, Description(weights="w.pth"))


@pytest.mark.parametrize(
    "tangle",
    [
        "m = ReduceMean <keepdims=1> (l, zero) y = Sub (l, m)",
        "b, p, q = BatchNormalization <training_mode=1> (l, z, z, z, u) y = Identity (b)",
    ],
)
def test_images_must_not_depend_on_each_other(tmp_path, tangle):
    model = integers(graph(BODY + tangle), zero=[0])
    model.graph.initializer.append(numpy_helper.from_array(np.ones(5, np.float32), "u"))
    with pytest.raises(ModelError, match="with the images beside it in the batch: .*evaluation mode"):
        compile_source(opened(model, tmp_path))


@pytest.mark.parametrize(
    ("body", "extra", "message"),
    [
        (
            "l2 = CumSum (l, axis) y = Identity (l2)",
            "",
            r"no gradient rule for operator CumSum \(node .*--target-layer",
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
        compile_source(opened(model, tmp_path), Request(("r",)))
    assert "\n" not in str(raised.value)


def test_an_operator_that_no_runtime_has(tmp_path):
    model = graph(BODY + "y = acme.Secret (l)", extra=', "acme" : 1')
    with pytest.raises(XrtError, match="acme.*Secret") as raised:
        compile_source(opened(model, tmp_path))
    assert "\n" not in str(raised.value)


def test_a_model_without_a_spatial_layer(tmp_path):
    body = "f = Flatten <axis=1> (x) y = MatMul (f, dense)"
    model = graph(body)
    dense = np.random.default_rng(0).normal(size=(4096, 5)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(dense, "dense"))
    with pytest.raises(ModelError, match="no spatial layer .*--target-layer"):
        compile_source(opened(model, tmp_path))


def test_a_file_becomes_a_bundle(tmp_path):
    model = graph(
        BODY + "y = Softmax <axis=1> (l)", face="(float[1,1,64,64] x) => (float y)", opset=9, ir=3, listed=True
    )
    source = opened(model, tmp_path)
    bundle = export_source(source, tmp_path / "lost.xrt")
    images = phantom_inputs(4, 9, source.preprocessing).images
    opening = open_session(bundle)
    try:
        logits = opening.session.infer(images).logits
    finally:
        opening.session.close()
    model.graph.output[0].name = "l"
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = (images.astype(np.float32) / 255 - 0.5) / 0.25
    expected = np.concatenate([theirs.run(["l"], {"x": x[None]})[0] for x in pixels])
    # Both fp32; the normalisation is done in another order.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    assert bundle.manifest.task == "multiclass"


@pytest.mark.parametrize("operator", ["Gemm", "GlobalAveragePool"])
def test_a_wrong_gradient_is_caught(tmp_path, monkeypatch, operator):
    """The proof of the reference fails when a rule is off by one part in a hundred."""
    right = VJPS[operator]

    def wrong(call):
        factor = call.emit.constant(1.01, "float32")
        return [g if g is None else call.emit("Mul", g, factor, shape=g.shape) for g in right(call)]

    monkeypatch.setitem(VJPS, operator, wrong)
    source = opened(graph(BODY + "y = Identity (l)"), tmp_path)
    compiled = compile_source(source, Request(("r",)))
    with pytest.raises(ModelError, match="the gradient at 'r' differs from a float64 directional derivative by 0.01"):
        compiled.reference.answer(phantom_inputs(2, 0, source.preprocessing).images)
