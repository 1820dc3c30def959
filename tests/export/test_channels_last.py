"""A classifier of another framework: channels last, nearest resize, x / 127.5 - 1, two classes, written by tf2onnx."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import numpy_helper
from PIL import Image

from xrt.export.passes.channels_first import take_channels_first
from xrt.export.publish import ExportOptions, publish_source
from xrt.export.sources import Description, open_source
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.runtime import Screener, ScreeningOptions
from xrt.runtime.errors import RefusedByGate

SIDE = 150
# Weights by name: [out, in / groups, kernel, kernel] of convolutions, [in, out] of the head.
WEIGHTS = {
    "stem": (8, 3, 3, 3), "d1": (8, 1, 3, 3), "p1": (16, 8, 1, 1), "d2": (16, 1, 3, 3), "p2": (16, 16, 1, 1),
    "s": (16, 8, 1, 1), "d3": (16, 1, 3, 3), "p3": (24, 16, 1, 1), "w": (24, 2),
}  # fmt: skip
BLOCKS = """
    x0 = Transpose<perm = [0, 3, 1, 2]>(input_1)
    x1 = Conv<strides = [2, 2], kernel_shape = [3, 3]>(x0, stem)
    x2 = Relu(x1)
    a1 = Conv<group = 8, kernel_shape = [3, 3], auto_pad = "SAME_UPPER">(x2, d1)
    a2 = Conv<kernel_shape = [1, 1]>(a1, p1)
    a3 = Relu(a2)
    a4 = Conv<group = 16, kernel_shape = [3, 3], auto_pad = "SAME_UPPER">(a3, d2)
    a5 = Conv<kernel_shape = [1, 1]>(a4, p2)
    a6 = MaxPool<kernel_shape = [3, 3], strides = [2, 2], auto_pad = "SAME_UPPER">(a5)
    r1 = Conv<strides = [2, 2], kernel_shape = [1, 1]>(x2, s)
    a7 = Add(a6, r1)
    b1 = Relu(a7)
    b2 = Conv<group = 16, kernel_shape = [3, 3], auto_pad = "SAME_UPPER">(b1, d3)
    b3 = Conv<kernel_shape = [1, 1]>(b2, p3)
    b4 = Relu(b3)
"""
HEADS = {
    "mean of the last axes but one": """
        c1 = Transpose<perm = [0, 2, 3, 1]>(b4)
        c2 = ReduceMean<axes = [1, 2], keepdims = 0>(c1)
    """,
    "global pooling, squeezed": """
        c0 = GlobalAveragePool(b4)
        c1 = Transpose<perm = [0, 2, 3, 1]>(c0)
        c2 = Squeeze(c1, axes)
    """,
}


def network(head, batch="unk__1"):
    model = onnx.parser.parse_model(f"""
        <ir_version: 8, opset_import: ["" : 15]>
        tf2onnx (float[{batch}, {SIDE}, {SIDE}, 3] input_1) => (float[{batch}, 2] dense)
        {{
            {BLOCKS}
            {HEADS[head]}
            c3 = MatMul(c2, w)
            c4 = Add(c3, bias)
            dense = Softmax<axis = 1>(c4)
        }}
    """)
    rng = np.random.default_rng(4)
    arrays = {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[1:])) for name, shape in WEIGHTS.items()}
    arrays["w"] *= 12
    arrays["bias"] = np.array([0.3, -0.3])
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "axes"))
    return model


@pytest.fixture(params=HEADS)
def path(request, tmp_path):
    onnx.save(network(request.param), tmp_path / "xception.onnx")
    return tmp_path / "xception.onnx"


@pytest.fixture(scope="module")
def files(phantom_folder):
    return sorted((phantom_folder / "images").iterdir())[:16]


def original(path, files):
    """The framework's own pipeline: its inputs, and its probabilities."""
    images = [Image.open(file).convert("RGB").resize((SIDE, SIDE), Image.Resampling.NEAREST) for file in files]
    inputs = np.stack([np.asarray(image, dtype=np.float32) for image in images]) / 127.5 - 1
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return inputs, session.run(None, {"input_1": inputs})[0]


def description(interpolation=None):
    stated = StatedPreprocessing(interpolation, True if interpolation else None, "stretch", None, "none")
    return Description(labels=("Normal", "TB"), mean=(0.5,), std=(0.5,), preprocessing=stated)


def test_it_gets_its_own_figures_through_the_bundle(path, files, tmp_path):
    source = open_source(str(path), description("nearest"))
    assert (source.task, source.channels, source.preprocessing.height) == ("multiclass", 3, SIDE)
    assert any("channels last" in note for note in source.notes)
    bundle = publish_source(source, tmp_path / "tb.xrt").bundle
    assert (bundle.manifest.graph.cams[0].height, bundle.manifest.graph.cams[0].channels) == (37, 24)
    _, expected = original(path, files)
    assert np.ptp(expected[:, 1]) > 0.02  # it tells images apart
    with Screener(bundle, options=ScreeningOptions(workers=0)) as screener:
        results = list(screener.screen(files))
    actual = [[finding.probability for finding in result.findings] for result in results]
    np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_what_was_not_stated_is_announced_and_refused(path, files, phantom_folder, tmp_path):
    source = open_source(str(path), description())
    assert any("interpolation bilinear" in note for note in source.notes)
    assert source.assumed["interpolation"] == "bilinear"
    inputs, probabilities = original(path, files)
    names = np.array([file.name for file in files])
    np.savez(tmp_path / "made.npz", files=names, inputs=inputs, probabilities=probabilities)
    options = ExportOptions(verify_inputs=tmp_path / "made.npz", images=phantom_folder / "images")
    with pytest.raises(RefusedByGate, match=r"input_change_p95 is 0\.\d+, the limit is 0\.00392.*nearest"):
        publish_source(source, tmp_path / "a.xrt", options)
    bundle = publish_source(open_source(str(path), description("nearest")), tmp_path / "b.xrt", options).bundle
    figures = bundle.manifest.certificates[0].figures
    assert figures["source_change_max"] is not None
    assert float(figures["source_change_max"]) < 1e-3


def test_a_batch_of_one_is_freed(tmp_path):
    onnx.save(network("mean of the last axes but one", batch="1"), tmp_path / "one.onnx")
    source = open_source(str(tmp_path / "one.onnx"), description("nearest"))
    assert publish_source(source, tmp_path / "a.xrt").bundle.manifest.certificates[0].passed


def test_a_subgraph_reads_the_image_as_it_was():
    """Only its readers in the main graph were given the transposed image."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 15]>
        g (float[n, 4, 5, 3] x, bool c) => (float[n, 4, 5, 3] y)
        {
            y = If(c) <
                then_branch = t () => (float[n, 4, 5, 3] a) { a = Neg(x) },
                else_branch = e () => (float[n, 4, 5, 3] b) { b = Identity(x) }
            >
        }
    """)
    take_channels_first(model, model.graph.input[0])
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    (y,) = session.run(None, {model.graph.input[0].name: x, "c": np.array(True)})
    np.testing.assert_array_equal(y, -x.transpose(0, 2, 3, 1))
