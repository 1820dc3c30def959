"""ONNX files with a fixed batch of one, as torch writes them by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export.onnx_graphs import CONV, compile_and_compare, graph, integers
from export.parity import randomise, run
from export.tails import TAILS, Classifier, Tokens

from xrt.export.compile import compile_source
from xrt.export.sources import Description, open_source
from xrt.runtime.certification.inputs import phantom_inputs

MODELS = {
    "CNN": (lambda: Classifier(TAILS["max pooling, flatten, perceptron"]()), 4),
    "class token": (lambda: Tokens(1, "token"), 8),
    "mean of tokens": (lambda: Tokens(2, "mean"), 8),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_built_in_batch_becomes_dynamic(name, tmp_path):
    torch.manual_seed(1)
    make, side = MODELS[name]
    module = randomise(make())
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        torch.onnx.export(module, (torch.zeros(1, 1, 64, 64),), path, dynamo=True, opset_version=18, verbose=False)
    source = open_source(str(path), Description(mean=(0.5,), std=(0.25,)))
    model = compile_source(source)
    assert model.graph.cams[0].height == side
    images = phantom_inputs(5, 2, source.preprocessing).images
    outputs, expected = run(model, source, images), model.reference.outputs(images)
    with torch.no_grad():
        logits = module((torch.from_numpy(images).float() / 255 - 0.5) / 0.25).numpy()
    # fp32 on both sides, a few dozen operators deep.
    np.testing.assert_allclose(outputs.logits, logits, rtol=0, atol=1e-4 * (1 + np.abs(logits).max()))
    scale = expected.cams["cams"].max()
    assert np.abs(outputs.cams["cams"] - expected.cams["cams"]).max() <= 1e-4 * scale
    assert (expected.cams["cams"].max(axis=(2, 3)) > 0).mean() >= 0.5


def test_sizes_computed_from_the_batch_become_dynamic(tmp_path):
    """As torch's older exporter writes windows: a size of the image among constants, one of which is the batch."""
    body = f"""
        c = {CONV} (x, w)
        s = Shape (c)
        side = Gather (s, three)
        count = Div (side, two)
        sizes = Concat <axis=0> (one, six, count, two, count, two)
        cut = Reshape (c, sizes)
        t = Transpose <perm=[0,2,4,1,3,5]> (cut)
        windows = Mul (count, count)
        flat = Concat <axis=0> (windows, six, four)
        r = Reshape (t, flat)
        a = Softmax <axis=-1> (r)
        m = Mul (r, a)
        back = Concat <axis=0> (one, count, count, six, two, two)
        u = Reshape (m, back)
        v = Transpose <perm=[0,3,1,4,2,5]> (u)
        whole = Concat <axis=0> (one, six, side, side)
        e = Reshape (v, whole)
        g = GlobalAveragePool (e)
        f = Flatten <axis=1> (g)
        y = Gemm <transB=1> (f, h, z)
    """
    model = graph(body, signature="(float[1,1,64,64] x) => (float y)")
    compile_and_compare(integers(model, one=[1], two=[2], three=[3], four=[4], six=[6]), tmp_path)
