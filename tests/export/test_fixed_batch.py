"""ONNX files with a fixed batch of one, as torch writes them by default."""

from __future__ import annotations

import numpy as np
import pytest
import torch
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
