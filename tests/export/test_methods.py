"""All five methods against pytorch-grad-cam's unscaled maps, at cloned activations, in float64.

XGrad-CAM divides by sums near zero and Grad-CAM++ by differences of powers: in float32 both sides are up to 3e-4 off,
each in its own way, and a comparison would prove nothing. So the emitted graph is run in float64 here.
"""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from export.parity import randomise, run, source_of
from export.tails import Classifier, Tokens, linear

from xrt.benchmarks.speed.contenders import unscaled_cams
from xrt.export.compile import Request, compile_source
from xrt.export.references.float64 import Float64Graph
from xrt.runtime.bundle.manifest import CamMethod
from xrt.runtime.certification.inputs import phantom_inputs

METHODS = get_args(CamMethod)
# Weights and folded constants are float32, rounded to 6e-8; a handful of operators add to that.
TOLERANCE = 1e-5


def curved() -> torch.nn.Module:
    """A CNN whose gradient depends on the position and on the image."""
    return Classifier(
        torch.nn.Sequential(torch.nn.Conv2d(12, 6, 3), torch.nn.Tanh(), torch.nn.AdaptiveMaxPool2d(2), linear(24))
    )


MODELS = {
    "average pooling": lambda: Classifier(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), linear())),
    "a tail that is not linear": curved,
    "vision transformer": lambda: Tokens(1, "token"),
}


@pytest.fixture(scope="module", params=MODELS)
def explained(request):
    torch.manual_seed(3)  # XGrad-CAM divides by sums: none of these is near zero
    source = source_of(randomise(MODELS[request.param]()))
    return source, compile_source(source, Request(methods=METHODS))


def test_every_method_equals_pytorch_grad_cam_in_float64(explained):
    source, model = explained
    images = phantom_inputs(3, 3, source.preprocessing).images
    names = [cam.output for cam in model.graph.cams]
    actual = Float64Graph(onnx.load_from_string(model.data)).run({"image": images}, names)
    reference = model.reference
    for index, (cam, maps) in enumerate(zip(model.graph.cams, actual, strict=True)):
        expected = unscaled_cams(reference, images, index, dtype=torch.float64)
        scale = expected.max(axis=(1, 2, 3), keepdims=True)
        assert np.abs(maps - expected).max() <= TOLERANCE * scale.max(), cam.method
        assert (expected.max(axis=(2, 3)) > 0).mean() >= 0.5


def test_every_method_agrees_with_autograd_in_float32(explained):
    source, model = explained
    images = phantom_inputs(3, 3, source.preprocessing).images
    expected, outputs = model.reference.outputs(images), run(model, source, images)
    assert [cam.output for cam in model.graph.cams] == ["cams", *(f"cams.{name}" for name in METHODS[1:])]
    for cam in model.graph.cams:
        reference = expected.cams[cam.output]
        # Before a layer norm Σ G A nearly vanishes at each token, and the quotients of the others cancel too.
        limit = 1e-4 if cam.method in ("gradcam", "layercam") else 1e-2
        assert np.abs(outputs.cams[cam.output] - reference).max() <= limit * reference.max(), cam.method
