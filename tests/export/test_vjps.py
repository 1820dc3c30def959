"""Every rule of the table against the oracle, on graphs written by hand; ties and errors, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from export.oracle import check, differentiated, opset, parse, session, static

from xrt.export.autodiff import VJPS
from xrt.runtime.errors import ModelError

CASES: dict[str, list[str]] = {
    "Identity": ["g (float[N,3] x) => (float[N,3] y) { y = Identity(x) }"],
    "Dropout": ["g (float[N,3] x) => (float[N,3] y) { y = Dropout(x) }"],
    "Cast": ["g (float[N,3] x) => (float[N,3] y) { y = Cast<to = 1>(x) }"],
    "Add": [
        "g (float[N,3,4] x, float[3,1] w) => (float[N,3,4] y) { y = Add(x, w) }",
        "g (float[N,3,4] x0, float[N,3,1] x1) => (float[N,3,4] y) { y = Add(x0, x1) }",
    ],
    "Sub": [
        "g (float[N,3,4] x0, float[N,1,4] x1) => (float[N,3,4] y) { y = Sub(x0, x1) }",
        "g (float[1] w, float[N,3] x) => (float[N,3] y) { y = Sub(w, x) }",
    ],
    "Mul": [
        "g (float[N,3,4] x0, float[N,3,1] x1) => (float[N,3,4] y) { y = Mul(x0, x1) }",
        "g (float[N,3] x) => (float[N,3] y) { y = Mul(x, x) }",
    ],
    "Div": [
        "g (float[N,3] x, float[3] w) => (float[N,3] y) { y = Div(x, w) }",
        "g (float[N,3,4] x0, float[N,1,4] x1) => (float[N,3,4] y) { e = Exp(x1) s = Div(x0, x1) y = Identity(s) }",
    ],
    "Neg": ["g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }"],
    "Relu": ["g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }"],
    "Clip": [
        "g (float[N,30] x) => (float[N,30] y) <float l = {-0.5}, float h = {0.6}> { y = Clip(x, l, h) }",
        "g (float[N,30] x) => (float[N,30] y) <float h = {0.6}> { y = Clip(x, , h) }",
    ],
    "Sigmoid": ["g (float[N,3] x) => (float[N,3] y) { y = Sigmoid(x) }"],
    "HardSigmoid": [
        "g (float[N,30] x) => (float[N,30] y) { t = Mul(x, x) y = HardSigmoid<alpha = 0.3, beta = 0.4>(x) }",
    ],
    "Tanh": ["g (float[N,3] x) => (float[N,3] y) { y = Tanh(x) }"],
    "Exp": ["g (float[N,3] x) => (float[N,3] y) { y = Exp(x) }"],
    "Log": ["g (float[N,3] x) => (float[N,3] y) { e = Exp(x) y = Log(e) }"],
    "Sqrt": ["g (float[N,3] x) => (float[N,3] y) { e = Exp(x) y = Sqrt(e) }"],
    "ReduceMax": [
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}> { y = ReduceMax(x, a) }",
        "g (float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {2, -1}> { y = ReduceMax<keepdims = 0>(x, a) }",
        # Log-sum-exp pooling shifted by its maximum: what flows through the shift cancels.
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}>"
        " { p = ReduceMax(x, a) d = Sub(x, p) e = Exp(d) m = ReduceMean(e, a) l = Log(m) y = Add(p, l) }",
    ],
    "ReduceSum": [
        "g (float[N,3,4,5] x) => (float[N,3] y) <int64[2] a = {2, -1}> { y = ReduceSum<keepdims = 0>(x, a) }",
    ],
    "ReduceMean": [
        "g (float[N,3,4,5] x) => (float[N,3,1,1] y) <int64[2] a = {2, 3}> { y = ReduceMean(x, a) }",
        "g (float[N,3,4] x) => (float[N,4] y) <int64[1] a = {1}> { y = ReduceMean<keepdims = 0>(x, a) }",
    ],
    "GlobalAveragePool": ["g (float[N,3,4,5] x) => (float[N,3,1,1] y) { y = GlobalAveragePool(x) }"],
    "Reshape": [
        "g (float[N,6,4] x) => (float[N,2,3,4] y) <int64[4] s = {-1, 2, 3, 4}> { y = Reshape(x, s) }",
        "g (float[N,2,3,4] x) => (float[N,24] y) <int64[2] s = {-1, 24}> { y = Reshape(x, s) }",
        "g (float[N,3,4] x) => (float[N,2,6] y) <int64[3] s = {-1, 2, 6}> { y = Reshape(x, s) }",
    ],
    "Flatten": [
        "g (float[N,3,2,2] x) => (float[N,12] y) { y = Flatten(x) }",
        "g (float[N,3,4,5] x) => (float[N,3] y) { p = GlobalAveragePool(x) y = Flatten(p) }",
    ],
    "Squeeze": ["g (float[N,3,1,1] x) => (float[N,3] y) <int64[2] a = {2, 3}> { y = Squeeze(x, a) }"],
    "Unsqueeze": ["g (float[N,3] x) => (float[N,1,3] y) <int64[1] a = {1}> { y = Unsqueeze(x, a) }"],
    "Transpose": [
        "g (float[N,3,4,5] x) => (float[N,4,5,3] y) { y = Transpose<perm = [0, 2, 3, 1]>(x) }",
        "g (float[N,3,4,5] x) => (float[5,N,3,4] y) { y = Transpose<perm = [3, 0, 1, 2]>(x) }",
    ],
    "Concat": [
        "g (float[N,2,4] x0, float[N,3,4] x1) => (float[N,5,4] y) { y = Concat<axis = 1>(x0, x1) }",
        "g (float[N,2,4] x) => (float[N,4,4] y) { y = Concat<axis = -2>(x, x) }",
    ],
    "MatMul": [
        "g (float[N,3,4] x, float[4,5] w) => (float[N,3,5] y) { y = MatMul(x, w) }",
        "g (float[N,2,3,4] x0, float[N,2,4,5] x1) => (float[N,2,3,5] y) { y = MatMul(x0, x1) }",
        "g (float[5,3] w, float[N,3,4] x) => (float[N,5,4] y) { y = MatMul(w, x) }",
        "g (float[4] x0, float[4,3] x1) => (float[3] y) { y = MatMul(x0, x1) }",
        "g (float[2,3,4] x0, float[4] x1) => (float[2,3] y) { y = MatMul(x0, x1) }",
        "g (float[4] x0, float[2,4,3] x1) => (float[2,3] y) { y = MatMul(x0, x1) }",
        "g (float[4] x0, float[4] x1) => (float[1] y) <int64[1] a = {0}> { d = MatMul(x0, x1) y = Unsqueeze(d, a) }",
    ],
    "Gemm": [
        "g (float[N,4] x, float[5,4] w, float[5] wb) => (float[N,5] y) { y = Gemm<transB = 1, alpha = 0.5>(x, w, wb) }",
        "g (float[N,4] x, float[4,5] w) => (float[N,5] y) { y = Gemm(x, w) }",
    ],
    "Conv": [
        "g (float[N,4,6,7] x, float[5,4,3,3] w, float[5] wb) => (float[N,5,6,7] y)"
        " { y = Conv<pads = [1, 1, 1, 1]>(x, w, wb) }",
        "g (float[N,4,7,7] x, float[6,2,3,3] w) => (float[N,6,4,4] y)"
        " { y = Conv<group = 2, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) }",
        "g (float[N,4,8,8] x, float[4,1,3,3] w) => (float[N,4,4,4] y)"
        " { y = Conv<group = 4, pads = [1, 1, 1, 1], strides = [2, 2]>(x, w) }",
        "g (float[N,3,9,9] x, float[2,3,3,3] w) => (float[N,2,7,7] y)"
        " { y = Conv<dilations = [2, 2], pads = [1, 1, 1, 1]>(x, w) }",
        "g (float[N,3,5,5] x, float[2,3,1,1] w) => (float[N,2,1,1] y) { c = Conv(x, w) y = GlobalAveragePool(c) }",
        "g (float[N,3,5,5] x, float[2,3,1,1] w) => (float[N,2,3,3] y) { y = Conv<strides = [2, 2]>(x, w) }",
        "g (float[N,2,5,5] x, float[2,2,1,1] w) => (float[N,2,7,7] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
        "g (float[N,2,7,5] x, float[3,2,3,3] w) => (float[N,3,4,3] y)"
        ' { y = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w) }',
    ],
    "BatchNormalization": [
        "g (float[N,3,4,4] x, float[3] w, float[3] wb, float[3] wm, float[3] wpositive) => (float[N,3,4,4] y)"
        " { y = BatchNormalization<epsilon = 0.01>(x, w, wb, wm, wpositive) }",
    ],
    "AveragePool": [
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y) { y = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y)"
        " { y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x) }",
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y)"
        " { y = AveragePool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1>(x) }",
    ],
    "MaxPool": [
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y) { y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        "g (float[N,2,7,7] x) => (float[N,2,4,4] y)"
        " { y = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(x) }",
        "g (float[N,2,5,5] x) => (float[N,2,3,3] y) { y = MaxPool<kernel_shape = [3, 3]>(x) }",
    ],
    "Sum": ["g (float[N,3] x0, float[N,1] x1, float[3] w) => (float[N,3] y) { y = Sum(x0, x1, w) }"],
    "Mean": ["g (float[N,3] x0, float[N,1] x1, float[3] w) => (float[N,3] y) { y = Mean(x0, x1, w) }"],
    "Max": ["g (float[N,9] x0, float[N,9] x1, float[9] w) => (float[N,9] y) { y = Max(x0, x1, w) }"],
    "Min": ["g (float[N,9] x0, float[N,1] x1) => (float[N,9] y) { y = Min(x0, x1) }"],
    "Where": [
        "g (float[N,9] x0, float[N,9] x1) => (float[N,9] y) { c = Greater(x0, x1) y = Where(c, x0, x1) }",
        "g (float[N,1] x, float[3] w) => (float[N,3] y) <bool[3] c = {1, 0, 1}> { y = Where(c, x, w) }",
    ],
    "Pow": [
        "g (float[N,9] x) => (float[N,9] y) <float p = {2.0}> { y = Pow(x, p) }",
        "g (float[N,9] x) => (float[N,9] y) <float p = {3.0}> { y = Pow(x, p) }",
        "g (float[N,9] x) => (float[N,9] y) <float p = {4.0}> { y = Pow(x, p) }",
        "g (float[N,9] x) => (float[N,9] y) <float p = {0.5}> { e = Exp(x) y = Pow(e, p) }",
        "g (float[N,3] x) => (float[N,3] y) <float[3] p = {-1.0, 0.0, 1.5}> { e = Exp(x) y = Pow(e, p) }",
        "g (float[N,3] x0, float[N,1] x1) => (float[N,3] y) { e = Exp(x0) y = Pow(e, x1) }",
    ],
    # A step lets nothing through: what arrives has come past it.
    **{
        op: ["g (float[N,9] x) => (float[N,9] y) { s = " + op + "(x) y = Mul(s, x) }"]
        for op in ("Ceil", "Floor", "Round", "Sign")
    },
    "Abs": ["g (float[N,9] x) => (float[N,9] y) { y = Abs(x) }"],
    "Reciprocal": ["g (float[N,9] x) => (float[N,9] y) { e = Exp(x) y = Reciprocal(e) }"],
    "Sin": ["g (float[N,9] x) => (float[N,9] y) { y = Sin(x) }"],
    "Cos": ["g (float[N,9] x) => (float[N,9] y) { y = Cos(x) }"],
    "LeakyRelu": ["g (float[N,9] x) => (float[N,9] y) { y = LeakyRelu<alpha = 0.3>(x) }"],
    "PRelu": [
        "g (float[N,3,4,4] x, float[3,1,1] w) => (float[N,3,4,4] y) { y = PRelu(x, w) }",
        "g (float[N,9] x0, float[N,1] x1) => (float[N,9] y) { y = PRelu(x0, x1) }",
    ],
    "ThresholdedRelu": ["g (float[N,9] x) => (float[N,9] y) { y = ThresholdedRelu<alpha = 0.3>(x) }"],
    "HardSwish": ["g (float[N,30] x) => (float[N,30] y) { d = Add(x, x) e = Add(d, d) y = HardSwish(e) }"],
    "Erf": ["g (float[N,9] x) => (float[N,9] y) { y = Erf(x) }"],
    "Gelu": [
        opset(20) + "g (float[N,9] x) => (float[N,9] y) { y = Gelu(x) }",
        opset(20) + 'g (float[N,9] x) => (float[N,9] y) { y = Gelu<approximate = "tanh">(x) }',
    ],
    "Elu": ["g (float[N,9] x) => (float[N,9] y) { y = Elu<alpha = 0.7>(x) }"],
    "Selu": ["g (float[N,9] x) => (float[N,9] y) { y = Selu(x) }"],
    "Celu": ["g (float[N,9] x) => (float[N,9] y) { y = Celu<alpha = 0.7>(x) }"],
    "Softplus": ["g (float[N,9] x) => (float[N,9] y) { y = Softplus(x) }"],
    "Softsign": ["g (float[N,9] x) => (float[N,9] y) { y = Softsign(x) }"],
    "Mish": ["g (float[N,9] x) => (float[N,9] y) { y = Mish(x) }"],
    "Softmax": ["g (float[N,3,4] x) => (float[N,3,4] y) { y = Softmax<axis = 1>(x) }"],
    "LogSoftmax": ["g (float[N,3,4] x) => (float[N,3,4] y) { y = LogSoftmax(x) }"],
    "ReduceMin": ["g (float[N,3,4] x) => (float[N,4] y) <int64[1] a = {1}> { y = ReduceMin<keepdims = 0>(x, a) }"],
    "ReduceL1": ["g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}> { y = ReduceL1(x, a) }"],
    "ReduceL2": ["g (float[N,3,4] x) => (float[N,4] y) <int64[1] a = {1}> { y = ReduceL2<keepdims = 0>(x, a) }"],
    "ReduceLogSum": [
        "g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}> { e = Exp(x) y = ReduceLogSum(e, a) }",
    ],
    "ReduceLogSumExp": ["g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}> { y = ReduceLogSumExp(x, a) }"],
    "ReduceSumSquare": ["g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}> { y = ReduceSumSquare(x, a) }"],
    "ReduceProd": [
        "g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}> { y = ReduceProd(x, a) }",
        # One zero in each row, then two in some: the product of the others remains, or nothing does.
        "g (float[N,3,4] x) => (float[N,3,1] y) <int64[1] a = {2}, float[4] m = {1.0, 0.0, 1.0, 1.0}>"
        " { z = Mul(x, m) y = ReduceProd(z, a) }",
    ],
    "GlobalMaxPool": ["g (float[N,3,4,5] x) => (float[N,3,1,1] y) { y = GlobalMaxPool(x) }"],
    "ConvTranspose": [
        "g (float[N,4,5,5] x, float[4,3,3,3] w, float[3] wb) => (float[N,3,10,10] y)"
        " { y = ConvTranspose<pads = [1, 1, 1, 1], strides = [2, 2], output_padding = [1, 1]>(x, w, wb) }",
        "g (float[N,4,5,4] x, float[4,3,3,3] w) => (float[N,6,8,7] y)"
        " { y = ConvTranspose<group = 2, dilations = [2, 2], pads = [1, 1, 0, 0]>(x, w) }",
    ],
    "LayerNormalization": [
        "g (float[N,3,4] x, float[4] w, float[4] wb) => (float[N,3,4] y) { y = LayerNormalization(x, w, wb) }",
        "g (float[N,3,4] x, float[3,4] w) => (float[N,3,4] y) { y = LayerNormalization<axis = 1>(x, w) }",
    ],
    "GroupNormalization": [
        "g (float[N,6,3,2] x, float[2] w, float[2] wb) => (float[N,6,3,2] y)"
        " { y = GroupNormalization<num_groups = 2>(x, w, wb) }",
        opset(21) + "g (float[N,6,3,2] x, float[6] w, float[6] wb) => (float[N,6,3,2] y)"
        " { y = GroupNormalization<num_groups = 2>(x, w, wb) }",
    ],
    "InstanceNormalization": [
        "g (float[N,3,4,2] x, float[3] w, float[3] wb) => (float[N,3,4,2] y) { y = InstanceNormalization(x, w, wb) }",
    ],
    "LRN": [
        "g (float[N,6,2,2] x) => (float[N,6,2,2] y) { y = LRN<size = 3, alpha = 0.8, beta = 0.6, bias = 1.5>(x) }",
    ],
    "LpNormalization": [
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = LpNormalization<axis = 1>(x) }",
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = LpNormalization<p = 1>(x) }",
    ],
    "MeanVarianceNormalization": [
        "g (float[N,3,4,2] x) => (float[N,3,4,2] y) { y = MeanVarianceNormalization<axes = [2, 3]>(x) }",
    ],
    "Split": [
        "g (float[N,5] x) => (float[N,2] y) <int64[3] s = {2, 1, 2}>"
        " { a, b, c = Split<axis = 1>(x, s) y = Mul(a, c) }",
        "g (float[N,4,2] x) => (float[N,2,2] y) { a, b = Split<axis = 1, num_outputs = 2>(x) y = Mul(a, b) }",
    ],
    "Slice": [
        "g (float[N,7,6] x) => (float[N,3,6] y) <int64[1] s = {1}, int64[1] e = {6}, int64[1] a = {1},"
        " int64[1] t = {2}> { y = Slice(x, s, e, a, t) }",
        "g (float[N,7] x) => (float[N,7] y) <int64[1] s = {-1}, int64[1] e = {-9223372036854775807},"
        " int64[1] a = {-1}, int64[1] t = {-1}> { y = Slice(x, s, e, a, t) }",
    ],
    "Gather": [
        "g (float[N,5,3] x) => (float[N,3] y) <int64 i = {0}> { y = Gather<axis = 1>(x, i) }",
        "g (float[N,5] x) => (float[N,2,3] y) <int64[2,3] i = {0, -1, 2, 2, 0, 2}> { y = Gather<axis = 1>(x, i) }",
    ],
    "Pad": [
        "g (float[N,5] x) => (float[N,6] y) <int64[4] p = {0, 2, 0, -1}> { y = Pad(x, p) }",
        'g (float[N,5] x) => (float[N,11] y) <int64[4] p = {0, 2, 0, 4}> { y = Pad<mode = "reflect">(x, p) }',
    ],
    "Tile": ["g (float[N,3,1] x) => (float[N,6,4] y) <int64[3] r = {1, 2, 4}> { y = Tile(x, r) }"],
    "Expand": ["g (float[N,3,1] x) => (float[N,3,4] y) <int64[2] s = {3, 4}> { y = Expand(x, s) }"],
    "DepthToSpace": [
        "g (float[N,8,2,3] x) => (float[N,2,4,6] y) { y = DepthToSpace<blocksize = 2>(x) }",
        'g (float[N,8,2,3] x) => (float[N,2,4,6] y) { y = DepthToSpace<blocksize = 2, mode = "CRD">(x) }',
    ],
    "SpaceToDepth": ["g (float[N,2,4,6] x) => (float[N,8,2,3] y) { y = SpaceToDepth<blocksize = 2>(x) }"],
    "Resize": [
        "g (float[N,2,3,4] x) => (float[N,2,6,8] y) <float[4] scales = {1.0, 1.0, 2.0, 2.0}>"
        ' { y = Resize<mode = "linear">(x, , scales) }',
    ],
    "Einsum": [
        'g (float[N,3,4] x0, float[N,5,4] x1) => (float[N,3,5] y) { y = Einsum<equation = "nik,njk->nij">(x0, x1) }',
        'g (float[N,3,4] x) => (float[4,N] y) { y = Einsum<equation = "nij->jn">(x) }',
    ],
}  # fmt: skip


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


def gradient(text: str, x: np.ndarray) -> np.ndarray:
    """The gradient of the output weighted by 1, 2, 3, …, by ONNX Runtime in float32."""
    model = parse(text, np.random.default_rng(0))
    seed = weights(static(model.graph.output[0]))[None]
    proto, found = differentiated(model, seed, known=False)
    (value,) = found.values()
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


def test_constants_stay_constants():
    """Means, then anything linear along other axes: known at export time, whatever was pooled."""
    text = (
        "g (float[N,4,6,6] x, float[4,4,1,1] w, float[4,3] w1) => (float[N,3] y)"
        " <int64[2] a = {2, 3}, int64[2] s = {-1, 4}>"
        " { p = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) c = Conv(p, w)"
        ' u = Resize<mode = "nearest">(c, , scales) m = ReduceMean(u, a) f = Reshape(m, s) y = MatMul(f, w1) }'
    ).replace("int64[2] s", "float[4] scales = {1.0, 1.0, 2.0, 2.0}, int64[2] s")
    model = parse(text, np.random.default_rng(0))
    _, found = differentiated(model, np.eye(3, dtype=np.float32)[:, None], known=True)
    assert found["x"].constant
    assert found["x"].shape == (3, 1, 4, 1, 1)


ERRORS = {
    "indices computed at run time": ("g (float[N,4] x, int64[2] i) => (float[N,2] y) { y = Gather<axis = 1>(x, i) }"),
    "Gather along the batch": "g (float[N,4] x) => (float[1,4] y) <int64[1] i = {0}> { y = Gather<axis = 0>(x, i) }",
    "without ellipsis": 'g (float[N,4] x) => (float[N] y) { y = Einsum<equation = "...i->...">(x) }',
    "no gradient rule for operator CumSum": ("g (float[N,4] x) => (float[N,4] y) <int64 a = {1}> { y = CumSum(x, a) }"),
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
        differentiated(model, np.ones((1, *static(model.graph.output[0])), np.float32), known=False)
    assert "\n" not in str(caught.value)
    assert "node " in str(caught.value)
