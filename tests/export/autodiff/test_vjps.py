"""Every rule of the table against the oracle, on graphs written by hand; and what has no gradient."""

from __future__ import annotations

import numpy as np
import pytest
from export.autodiff.cases import CASES
from export.autodiff.oracle import check, differentiate, parse, static

from xrt.export.autodiff import VJPS
from xrt.runtime.errors import ModelError


def test_no_rule_is_untested():
    assert set(CASES) == set(VJPS)


@pytest.mark.parametrize(("operator", "text"), [(op, text) for op, texts in CASES.items() for text in texts])
def test_rule_agrees_with_the_directional_derivative(operator, text):
    rng = np.random.default_rng(0)
    model = parse(text, rng)
    assert operator in {node.op_type for node in model.graph.node}
    check(model, rng)


def test_a_wrong_rule_is_seen(monkeypatch):
    monkeypatch.setitem(VJPS, "Sigmoid", VJPS["Tanh"])
    with pytest.raises(AssertionError):
        check(parse(CASES["Sigmoid"][0], np.random.default_rng(0)), np.random.default_rng(0))


def test_an_avoided_operator_is_seen(monkeypatch):
    monkeypatch.setitem(VJPS, "Sigmoid", lambda call: [call.emit("CumSum", call.g, call.emit.constant(1, "int64"))])
    with pytest.raises(AssertionError, match="emitted {'CumSum'}"):
        check(parse(CASES["Sigmoid"][0], np.random.default_rng(0)), np.random.default_rng(0))


def test_constants_stay_constants():
    """Means, then anything linear along other axes: known at export time, for any pooled tensor."""
    text = (
        "g (float[N,4,6,6] x, float[4,4,1,1] w, float[4,3] w1) => (float[N,3] y)"
        " <int64[2] a = {2, 3}, int64[2] s = {-1, 4}>"
        " { p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) c = Conv(p, w)"
        ' u = Resize<mode = "nearest">(c, , scales) m = ReduceMean(u, a) f = Reshape(m, s) y = MatMul(f, w1) }'
    ).replace("int64[2] s", "float[4] scales = {1.0, 1.0, 2.0, 2.0}, int64[2] s")
    model = parse(text, np.random.default_rng(0))
    _, gradients = differentiate(model, np.eye(3, dtype=np.float32)[:, None], constant_seed=True)
    assert gradients["x"].constant
    assert gradients["x"].shape == (3, 1, 4, 1, 1)


ERRORS = {
    "indices computed at run time": ("g (float[N,4] x, int64[2] i) => (float[N,2] y) { y = Gather<axis = 1>(x, i) }"),
    "Gather along the batch": "g (float[N,4] x) => (float[1,4] y) <int64[1] i = {0}> { y = Gather<axis = 0>(x, i) }",
    "without ellipsis": 'g (float[N,4] x) => (float[N] y) { y = Einsum<equation = "...i->...">(x) }',
    "no gradient rule for operator Hardmax": "g (float[N,4] x) => (float[N,4] y) { y = Hardmax(x) }",
    "whose weights are computed": ("g (float[N,2,4,4] x, float[2,2,1,1] x1) => (float[N,2,4,4] y) { y = Conv(x, x1) }"),
    "a computed scale": "g (float[N,4] x, float[4] x1) => (float[N,4] y) { y = LayerNormalization(x, x1) }",
    "statistics are used": ("g (float[N,4] x, float[4] w) => (float[N,1] y) { n, y = LayerNormalization(x, w) }"),
    "are computed at run time": (
        "g (float[N,4] x, int64[1] e) => (float[N,2] y) <int64[1] s = {0}, int64[1] a = {1}> { y = Slice(x, s, e, a) }"
    ),
    "keeps the aspect ratio": (
        "g (float[N,2,4,4] x) => (float[N,2,4,4] y) <int64[2] s = {4, 6}>"
        ' { y = Resize<axes = [2, 3], keep_aspect_ratio_policy = "not_larger">(x, , , s) }'
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_what_has_no_gradient_says_so_in_one_line(message):
    model = parse(ERRORS[message], np.random.default_rng(0))
    with pytest.raises(ModelError, match=message) as caught:
        differentiate(model, np.ones((1, *static(model.graph.output[0])), np.float32), constant_seed=False)
    assert "\n" not in str(caught.value)
    assert "node " in str(caught.value)
