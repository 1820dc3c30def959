"""Where a derivative is not defined or hard to compute, rules do as torch does: ties, the origin, steep slopes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export.autodiff.oracle import differentiate, opset, parse, session, static


def gradient(text: str, x: np.ndarray) -> np.ndarray:
    """The gradient of the output weighted by 1, 2, 3, …, by ONNX Runtime in float32."""
    model = parse(text, np.random.default_rng(0))
    seed = weights(static(model.graph.output[0]))[None]
    proto, gradients = differentiate(model, seed, constant_seed=False)
    (value,) = gradients.values()
    assert value.value is not None
    (result,) = session(proto).run([value.value.name], {"x": x.astype(np.float32), "seed": seed})
    return np.broadcast_to(result[0], x.shape)


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return 1 + np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def by_torch(function, x: np.ndarray) -> np.ndarray:
    leaf = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    y = function(leaf)
    (y * torch.tensor(weights(tuple(y.shape)))).sum().backward()
    return leaf.grad.numpy()


# Values on a grid of three, so that nearly every window has a tie and zeros abound, as after a ReLU.
F = torch.nn.functional
TIES = {
    "Relu": ("g (float[N,2,6,6] x) => (float[N,2,6,6] y) { y = Relu(x) }", F.relu),
    "LeakyRelu": ("g (float[N,2,6,6] x) => (float[N,2,6,6] y) { y = LeakyRelu(x) }", F.leaky_relu),
    "Elu": ("g (float[N,2,6,6] x) => (float[N,2,6,6] y) { y = Elu(x) }", F.elu),
    "Abs": ("g (float[N,2,6,6] x) => (float[N,2,6,6] y) { y = Abs(x) }", torch.abs),
    "Clip": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float l = {-1.0}, float h = {0.0}> { y = Clip(x, l, h) }",
        lambda x: x.clamp(-1, 0),
    ),
    "Clip from below": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float l = {0.0}> { y = Clip(x, l) }",
        lambda x: x.clamp(min=0),
    ),
    "Clip from above": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float h = {0.0}> { y = Clip(x, , h) }",
        lambda x: x.clamp(max=0),
    ),
    "HardSwish": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float t = {3.0}> { m = Mul(x, t) y = HardSwish(m) }",
        lambda x: F.hardswish(x * 3),
    ),
    "HardSigmoid": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float t = {3.0}>"
        " { m = Mul(x, t) y = HardSigmoid<alpha = 0.16666667>(m) }",
        lambda x: F.hardsigmoid(x * 3),
    ),
    "Max": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float z = {0.0}> { y = Max(x, z) }",
        lambda x: torch.maximum(x, torch.zeros(())),
    ),
    "Min": (
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) <float z = {0.0}> { y = Min(z, x) }",
        lambda x: torch.minimum(x, torch.zeros(())),
    ),
    "ReduceMax": (
        "g (float[N,2,6,6] x) => (float[N,2] y) <int64[2] a = {2, 3}> { y = ReduceMax<keepdims = 0>(x, a) }",
        lambda x: x.amax((2, 3)),
    ),
    "ReduceMin": (
        "g (float[N,2,6,6] x) => (float[N,2] y) <int64[2] a = {2, 3}> { y = ReduceMin<keepdims = 0>(x, a) }",
        lambda x: x.amin((2, 3)),
    ),
    "ReduceProd": (
        "g (float[N,2,6,6] x) => (float[N,2,6] y) <int64[1] a = {3}> { y = ReduceProd<keepdims = 0>(x, a) }",
        lambda x: x.prod(3),
    ),
    "GlobalMaxPool": (
        "g (float[N,2,6,6] x) => (float[N,2,1,1] y) { y = GlobalMaxPool(x) }",
        lambda x: F.adaptive_max_pool2d(x, 1),
    ),
    "MaxPool": (
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y)"
        " { y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }",
        lambda x: F.max_pool2d(x, 3, 2, 1),
    ),
    "MaxPool with dilation": (
        "g (float[N,2,6,6] x) => (float[N,2,4,4] y) { y = MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x) }",
        lambda x: F.max_pool2d(x, 2, 1, 0, 2),
    ),
    "MaxPool with ceil_mode": (
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y)"
        " { y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(x) }",
        lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TIES)
def test_ties_are_broken_as_torch_breaks_them(name):
    text, function = TIES[name]
    x = np.random.default_rng(0).integers(-1, 2, size=(2, 2, 6, 6)).astype(np.float32)
    x[0, 0] = 0.0
    np.testing.assert_allclose(gradient(text, x), by_torch(function, x), rtol=1e-6)


def test_root_and_norm_have_no_gradient_at_the_origin():
    x = np.zeros((2, 3), dtype=np.float32)
    norm = "g (float[N,3] x) => (float[N,1] y) <int64[1] a = {1}> { y = ReduceL2(x, a) }"
    np.testing.assert_array_equal(gradient(norm, x), by_torch(lambda t: t.norm(dim=1, keepdim=True), x))
    for call in ("Sqrt(x)", "Pow(x, p)", "LpNormalization(x)"):
        text = f"g (float[N,3] x) => (float[N,3] y) <float p = {{0.5}}> {{ y = {call} }}"
        np.testing.assert_array_equal(gradient(text, x), x)


STEEP = {
    "Softplus": ("Softplus(x)", F.softplus),
    "Mish": ("Mish(x)", F.mish),
    "Sigmoid": ("Sigmoid(x)", torch.sigmoid),
    "Tanh": ("Tanh(x)", torch.tanh),
    "Gelu": ("Gelu(x)", F.gelu),
    "Gelu by tanh": ('Gelu<approximate = "tanh">(x)', lambda x: F.gelu(x, approximate="tanh")),
    "Elu": ("Elu(x)", F.elu),
    "Celu": ("Celu(x)", F.celu),
    "Selu": ("Selu(x)", F.selu),
    "Softsign": ("Softsign(x)", F.softsign),
    "Softmax": ("Softmax(x)", lambda x: F.softmax(x, -1)),
    "LogSoftmax": ("LogSoftmax(x)", lambda x: F.log_softmax(x, -1)),
    "ReduceLogSumExp": ("ReduceLogSumExp(x, a)", lambda x: torch.logsumexp(x, -1, keepdim=True)),
}


@pytest.mark.parametrize("name", STEEP)
def test_nothing_overflows(name):
    call, function = STEEP[name]
    last = 1 if "Reduce" in call else 7
    text = f"g (float[N,7] x) => (float[N,{last}] y) <int64[1] a = {{1}}> {{ y = {call} }}"
    x = np.array([[-80, -20, -5, 0.5, 5, 20, 80], [80, 80, 79, -80, 0, 1, 2]], dtype=np.float32)
    # Two runtimes' float32 exponentials, of weights up to 14.
    np.testing.assert_allclose(gradient(opset(20) + text, x), by_torch(function, x), rtol=1e-5, atol=2e-5)


def test_resizing_to_one_takes_the_first_element():
    """As ONNX defines pytorch_half_pixel, and as ONNX Runtime does."""
    text = (
        "g (float[N,1,2,2] x) => (float[N,1,1,1] y) <float[4] s = {1.0, 1.0, 0.5, 0.5}>"
        ' { y = Resize<mode = "cubic", coordinate_transformation_mode = "pytorch_half_pixel">(x, , s) }'
    )
    x = np.random.default_rng(0).normal(size=(2, 1, 2, 2)).astype(np.float32)
    forward = session(parse(text, np.random.default_rng(0))).run(None, {"x": x})[0]
    np.testing.assert_array_equal(forward[..., 0, 0], x[..., 0, 0])
    np.testing.assert_array_equal(gradient(text, x) != 0, np.broadcast_to([[True, False], [False, False]], x.shape))
