"""The proof of a gradient: most of several images and directions decide, and kinks within a step are avoided."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from onnx import numpy_helper

from xrt.export.ir.skeleton import Skeleton
from xrt.export.references.directional_derivatives import Point, Tail, prove_gradient
from xrt.runtime.errors import ModelError

SIGNS = np.ones(2)


@pytest.fixture
def tail():
    """Logits from 12 features through 40 hidden units with a ReLU, of which the weights are `w` and `v`."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]> m (float[1,12] x) => (float[1,2] y)'
        " { t = Identity(x) h = MatMul(t, w) r = Relu(h) y = MatMul(r, v) }"
    )
    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(12, 40)).astype(np.float32), rng.normal(size=(40, 2)).astype(np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(w, "w"), numpy_helper.from_array(v, "v")])
    return Tail(Skeleton.taken_from(model), "t"), w, v


def gradient(x, w, v):
    return np.stack([(x @ w > 0) * v[:, i] @ w.T for i in range(2)]).astype(np.float32)


def points(w, v, rng, count=7, wrong=()):
    """Images of which those in `wrong` have the gradient of the other side of one kink."""
    for i in range(count):
        x = rng.normal(size=(1, 12)).astype(np.float32)
        g = gradient(x, w, v)
        if i in wrong:
            g = g + v[0, :, None, None] * w[None, None, :, 0]
        yield Point(x, {}, g, np.arange(2))


def test_a_right_gradient_passes_though_images_lie_on_kinks(tail):
    proof, w, v = tail
    rng = np.random.default_rng(1)
    prove_gradient(proof, points(w, v, rng, wrong=(0, 3, 4)), SIGNS)


def test_a_gradient_that_is_wrong_for_most_images_is_refused(tail):
    proof, w, v = tail
    with pytest.raises(ModelError, match="the gradient at 't' differs from a float64 directional derivative by"):
        prove_gradient(proof, points(w, v, np.random.default_rng(1), wrong=(0, 1, 2, 3)), SIGNS)


def test_a_kink_within_the_step_is_avoided(tail):
    """One unit is 1e-9 from its kink at every image: within a step of 1e-6, and outside one of 1e-10."""
    proof, w, v = tail

    def near(rng):
        for _ in range(4):
            x = rng.normal(size=(1, 12))
            x -= ((x @ w[:, 0] - 1e-9) / (w[:, 0] @ w[:, 0]))[:, None] * w[:, 0]
            yield Point(x, {}, gradient(x, w.astype(np.float64), v), np.arange(2))

    prove_gradient(proof, near(np.random.default_rng(2)), SIGNS)


def test_the_search_ends_when_enough_agree(tail):
    proof, w, v = tail
    asked = []

    def counted():
        for i, point in enumerate(points(w, v, np.random.default_rng(3))):
            asked.append(i)
            yield point

    prove_gradient(proof, counted(), SIGNS)
    assert asked == [0, 1]
