"""ONNX files of any exporter and age become explained graphs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from export.onnx_graphs import BODY, CONV, compile_and_compare, graph, integers, open_file

from xrt.export.compile import Request
from xrt.export.publish import publish_source
from xrt.export.sources import Description
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import ModelError
from xrt.runtime.session import open_session


def test_a_file_of_2018(tmp_path):
    """Opset 9 and IR 3: weights are listed as inputs, the batch is 1, and the head is a convolution."""
    body = f"""
        c = {CONV} (x, w)
        b = BatchNormalization <epsilon=0.00001> (c, scale, shift, mean, variance)
        r = Relu (b)
        g = GlobalAveragePool (r)
        y = Conv <kernel_shape=[1,1]> (g, k)
    """
    model = graph(body, signature="(float[1,1,64,64] x) => (float y)", opset=9, ir=3, weights_as_inputs=True)
    source, explained_model, logits = compile_and_compare(model, tmp_path)
    assert source.logits == 5
    assert logits.shape == (3, 5)
    assert explained_model.graph.cams[0].layer == "r"
    proto = onnx.load_from_string(explained_model.data)
    assert (proto.opset_import[0].version, [i.name for i in proto.graph.input]) == (18, ["image"])
    assert 4 <= proto.ir_version <= 10


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 13, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26])
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
    model = graph(body, opset=opset, ir=3 if opset < 9 else 8, weights_as_inputs=opset < 9)
    model = integers(model, axes=[2, 3]) if opset >= 13 else model
    compile_and_compare(model, tmp_path)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_came_after_opset_18(tmp_path, approximate):
    body = f'c = {CONV} (x, w) r = Gelu <approximate="{approximate}"> (c) g = GlobalAveragePool (r) y = Conv (g, k)'
    compile_and_compare(graph(body, opset=20), tmp_path, request=Request(("c",)))


def test_group_normalization_by_channel_came_with_opset_21(tmp_path):
    norm = "GroupNormalization <num_groups=2, epsilon=0.01> (c, scale, shift)"
    body = f"c = {CONV} (x, w) b = {norm} r = Relu (b) g = GlobalAveragePool (r) y = Conv (g, k)"
    _, explained_model, _ = compile_and_compare(graph(body, opset=21), tmp_path, request=Request(("c",)))
    _, default, _ = compile_and_compare(graph(body, opset=22), tmp_path)
    assert (explained_model.graph.cams[0].tensor, default.graph.cams[0].tensor) == ("c", "r")


@pytest.mark.parametrize("opset", [23, 24, 26])
def test_attention_and_its_normalisation_came_with_opset_23(tmp_path, opset):
    """As torch's exporter writes vision transformers: both are written with their own definitions."""
    body = f"""
        c = {CONV} (x, w)
        s = Reshape (c, rows)
        t = Transpose <perm=[0,2,1]> (s)
        r = RMSNormalization <epsilon=0.00001> (t, scale)
        a = Attention <q_num_heads=2, kv_num_heads=2> (r, r, r)
        e = Add (t, a)
        m = ReduceMean <keepdims=0> (e, one)
        y = Gemm <transB=1> (m, h, z)
    """
    model = integers(graph(body, opset=opset, ir=10), rows=[0, 6, 64], one=[1])
    compile_and_compare(model, tmp_path, request=Request(("c",)))


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        ("CumProd (c, one)", "CumProd at 'r'"),
        ("AveragePool <kernel_shape=[2,2], dilations=[2,2]> (c)", "AveragePool with dilations at 'r'"),
        ("DeformConv <kernel_shape=[3,3]> (c, w3, off)", "DeformConv at 'r'"),
    ],
)
def test_what_opset_18_cannot_express_is_refused_by_name(tmp_path, node, reason):
    model = integers(graph(f"c = {CONV} (x, w) r = {node} g = GlobalAveragePool (r) y = Conv (g, k)", opset=26), one=1)
    with pytest.raises(ModelError, match=f"{reason} is of opset 26 and cannot be written in opset 18"):
        open_file(model, tmp_path)


def test_a_padded_map_is_no_layer_of_its_own(tmp_path):
    """Keras pads on one side before a strided convolution: stretched over the image, that map would be shifted."""
    body = f"""
        c = {CONV} (x, w)
        r = Relu (c)
        p = Pad (r, pads)
        c2 = Conv <kernel_shape=[3,3], strides=[4,4]> (p, w6)
        r2 = Relu (c2)
        g = GlobalAveragePool (r2)
        f = Flatten <axis=1> (g)
        y = Gemm <transB=1> (f, h, z)
    """
    model = integers(graph(body), pads=[0, 0, 0, 0, 0, 0, 1, 1])
    weights = np.random.default_rng(3).normal(size=(6, 6, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w6"))
    _, explained_model, _ = compile_and_compare(model, tmp_path)
    assert explained_model.graph.cams[0].tensor == "r"
    assert not explained_model.notes
    _, named, _ = compile_and_compare(model, tmp_path, request=Request(("p",)))
    assert named.notes == (
        "heatmaps of p do not lie as the radiograph does: it has a border that is not of the image (p)",
    )


@pytest.mark.parametrize("default", [True, False])
def test_a_switch_to_training_is_off(tmp_path, default):
    """With a default it is a weight; without one, as older exporters of Keras write it, it is set."""
    model = graph(BODY + "y = Dropout (l, share, is_training)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "share"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("is_training", onnx.TensorProto.BOOL, []))
    if default:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(False), "is_training"))
    source, *_ = compile_and_compare(model, tmp_path)
    assert any("'is_training' is set to false" in note for note in source.notes) is not default


THEN_ELSE = (
    "<then_branch = t () => (float tt) { tt = Identity(r0) }, else_branch = e () => (float ee) { ee = Neg(r0) }>"
)


@pytest.mark.parametrize("opset", [11, 18, 21])
@pytest.mark.parametrize("condition", ["true", "s = Shape(r0) d = Gather(s, one) true0 = Equal(d, six)"])
def test_a_branch_that_every_image_takes_is_part_of_the_graph(tmp_path, opset, condition):
    name = condition.split()[-1] if condition == "true" else "true0"
    before = "" if condition == "true" else condition
    body = f"""
        c = {CONV} (x, w)
        r0 = Relu (c)
        {before}
        chosen = If ({name}) {THEN_ELSE}
        r = Relu (chosen)
        g = GlobalAveragePool (r)
        f = Flatten <axis=1> (g)
        y = Gemm <transB=1> (f, h, z)
    """
    model = integers(graph(body, opset=opset), one=1, six=6)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "true"))
    _, explained_model, _ = compile_and_compare(model, tmp_path)
    assert explained_model.graph.cams[0].tensor == "r"


def test_a_squeeze_in_a_branch_is_no_obstacle(tmp_path):
    """As torch's older exporter writes `x.squeeze(2)`, and a branch within a branch."""
    inner = (
        "<then_branch = t () => (float tt) { tt = Flatten(g) }, else_branch = e () => (float ee) { ee = Identity(g) }>"
    )
    body = f"""
        c = {CONV} (x, w)
        r = Relu (c)
        g = GlobalAveragePool (r)
        s = Shape (g)
        d = Gather (s, two)
        is_one = Equal (d, one)
        f = If (is_one) <then_branch = o () => (float oo) {{ oo = If (is_one) {inner} }},
                         else_branch = p () => (float pp) {{ pp = Identity(g) }}>
        y = Gemm <transB=1> (f, h, z)
    """
    _, explained_model, _ = compile_and_compare(integers(graph(body), one=1, two=2), tmp_path)
    assert explained_model.graph.cams[0].tensor == "r"


def test_names_of_the_bundle_may_be_used_in_the_file(tmp_path):
    body = f"image = {CONV} (x, w) cams = Relu (image) logits = GlobalAveragePool (cams) y = Conv (logits, k)"
    _, explained_model, _ = compile_and_compare(graph(body), tmp_path)
    assert explained_model.graph.cams[0].tensor == "file/cams"


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
    source, _, logits = compile_and_compare(model, tmp_path)
    assert source.task == (task or "multilabel")
    assert (logits < 0).any() and (np.abs(logits.sum(1) - 1) > 0.01).any(), "logits, not probabilities"
    assert any("--task" in note for note in source.notes) == (task is None)


def test_logits_with_their_classes_last(tmp_path):
    """[n, 1, 1, K], as converters from TensorFlow leave them."""
    source, _, logits = compile_and_compare(integers(graph(BODY + "y = Reshape (l, to)"), to=[-1, 1, 1, 5]), tmp_path)
    assert (source.logits, logits.shape) == (5, (3, 5))


@pytest.mark.parametrize("to", [[1, -1], [1, 6], [-1, 6], [0, 6]])
def test_a_batch_of_one_is_made_dynamic(tmp_path, to):
    body = f"c = {CONV} (x, w) r = Relu (c) g = GlobalAveragePool (r) f = Reshape (g, to) y = Gemm <transB=1> (f, h, z)"
    model = integers(graph(body, signature="(float[1,1,64,64] x) => (float y)"), to=to)
    _, explained_model, logits = compile_and_compare(model, tmp_path)
    assert logits.shape == (3, 5)
    assert onnx.load_from_string(explained_model.data).graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_colour(tmp_path):
    model = graph(BODY.replace("w)", "w3)") + "y = Identity (l)", signature="(float[n,3,64,64] x) => (float y)")
    source, *_ = compile_and_compare(model, tmp_path, Description())
    assert source.normalisation.mean == (0.485, 0.456, 0.406)
    assert any("normalisation is taken to be mean 0.485" in note for note in source.notes)


def test_a_file_becomes_a_bundle(tmp_path):
    model = graph(
        BODY + "y = Softmax <axis=1> (l)",
        signature="(float[1,1,64,64] x) => (float y)",
        opset=9,
        ir=3,
        weights_as_inputs=True,
    )
    source = open_file(model, tmp_path)
    bundle = publish_source(source, tmp_path / "lost.xrt").bundle
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


def test_the_default_domain_by_its_name(tmp_path):
    """`ai.onnx` and the empty string are one domain."""
    model = graph(BODY + "y = Identity (l)", opset=17)
    model.opset_import[0].domain = "ai.onnx"
    compile_and_compare(model, tmp_path)


def test_weights_stored_in_half_precision_or_in_integers(tmp_path):
    """What is computed from weights alone is a constant."""
    body = f"""
        wf = Cast <to=1> (half) c = {CONV} (x, wf) r = Relu (c) g = GlobalAveragePool (r) f = Flatten <axis=1> (g)
        hf = DequantizeLinear <axis=0> (small, steps, zeros) y = Gemm <transB=1> (f, hf, z)
    """
    rng = np.random.default_rng(0)
    stored = {
        "half": rng.normal(size=(6, 1, 3, 3)).astype(np.float16),
        "small": rng.integers(-127, 127, size=(5, 6), dtype=np.int8),
        "steps": np.full(5, 0.02, np.float32),
        "zeros": np.zeros(5, np.int8),
    }
    model = graph(body)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in stored.items())
    compile_and_compare(model, tmp_path)
