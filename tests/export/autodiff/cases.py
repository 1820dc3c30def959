"""Graphs written by hand, at least one for every rule of the table."""

from __future__ import annotations

from export.autodiff.oracle import opset

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
    "CastLike": ["g (float[N,3] x) => (float[N,3] y) <float l = {1}> { y = CastLike(x, l) }"],
    "CumSum": [
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64 a = {-1}> { y = CumSum(x, a) }",
        "g (float[N,3,4] x) => (float[N,3,4] y) <int64 a = {1}> { y = CumSum<exclusive = 1, reverse = 1>(x, a) }",
        "g (float[N,3,4] x) => (float[N,3,1] y) <int64 a = {1}, int64[1] b = {2}>"
        " { s = CumSum<reverse = 1>(x, a) y = ReduceMean(s, b) }",
    ],
    "Trilu": [
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = Trilu(x) }",
        "g (float[N,4,4] x) => (float[N,4,4] y) <int64 k = {-1}> { y = Trilu<upper = 0>(x, k) }",
        "g (float[N,4,4] x) => (float[N,1,1] y) <int64 k = {1}, int64[2] b = {1, 2}>"
        " { s = Trilu(x, k) y = ReduceSum(s, b) }",
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
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y) { y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x) }",
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
        "g (float[N,5] x) => (float[N,2] y) <int64[3] s = {2, 1, 2}> { a, b, c = Split<axis = 1>(x, s) y = Mul(a, c) }",
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
    "GatherND": [
        "g (float[N,5] x) => (float[3,N] y) <int64[3,1] i = {4, -5, 4}>"
        " { t = Transpose<perm = [1, 0]>(x) y = GatherND(t, i) }",
        "g (float[2,3,N,2] x) => (float[2,N,2] y) <int64[2,2] i = {0, 2, 1, -3}> { y = GatherND(x, i) }",
        # At indices computed at run time, with and without batch axes.
        "g (float[4,3] x) => (float[2,3] y) <int64[1] b = {0}, int64[1] e = {2}, int64[1] a = {1}, int64[1] k = {1}>"
        " { m = ReduceMax<keepdims = 0>(x, a) h = Slice(m, b, e) s = Sign(h) i = Cast<to = 7>(s) u = Unsqueeze(i, k)"
        " y = GatherND(x, u) }",
        "g (float[N,4,3,2] x) => (float[N,4,2] y) <int64[2] a = {2, 3}, int64[1] k = {2}>"
        " { m = ReduceMax<keepdims = 0>(x, a) s = Sign(m) i = Cast<to = 7>(s) u = Unsqueeze(i, k)"
        " y = GatherND<batch_dims = 2>(x, u) }",
        "g (float[N,4,2] x) => (float[N,5,2] y) <int64[2] r = {5, 1}, int64[1,5,1] i = {0, 1, -1, 2, 3}>"
        " { s = Shape<end = 1>(x) t = Concat<axis = 0>(s, r) j = Expand(i, t) y = GatherND<batch_dims = 1>(x, j) }",
    ],
    "ScatterND": [
        "g (float[5,N] x0, float[2,N] x1) => (float[5,N] y) <int64[2,1] i = {4, -5}> { y = ScatterND(x0, i, x1) }",
        "g (float[2,3,N] x0, float[1,2,N] x1) => (float[2,3,N] y) <int64[1,2,2] i = {0, 2, 0, 2}>"
        ' { y = ScatterND<reduction = "add">(x0, i, x1) }',
    ],
    "TopK": [
        "g (float[N,2,7] x) => (float[N,2,3] y) <int64[1] k = {3}> { y, i = TopK(x, k) }",
        "g (float[N,4,2] x) => (float[N,4,2] y) <int64[1] k = {4}> { y, i = TopK<axis = 1, largest = 0>(x, k) }",
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
    "GatherElements": [
        "g (float[N,3,4] x) => (float[N,3,4] y) { s = Sign(x) i = Cast<to = 7>(s) y = GatherElements<axis = 2>(x, i) }",
        "g (float[4,3] x) => (float[2,3] y) <int64[2,3] i = {0, 1, -1, 3, 3, 2}> { y = GatherElements(x, i) }",
        "g (float[N,5,4] x) => (float[N,3,2] y) <int64[2] b = {1, 1}, int64[2] e = {4, 3}, int64[2] a = {1, 2}>"
        " { s = Slice(x, b, e, a) t = Sign(s) i = Cast<to = 7>(t) y = GatherElements<axis = 1>(x, i) }",
    ],
    "ScatterElements": [
        "g (float[N,3,4] x0, float[N,3,2] x1) => (float[N,3,4] y) <int64[2] o = {0, 2}>"
        " { s = Sign(x1) r = Relu(s) b = Cast<to = 7>(r) i = Add(b, o) y = ScatterElements<axis = -1>(x0, i, x1) }",
        "g (float[N,3,4] x0, float[N,2,4] x1) => (float[N,3,4] y)"
        ' { s = Sign(x1) i = Cast<to = 7>(s) y = ScatterElements<axis = 1, reduction = "add">(x0, i, x1) }',
        "g (float[N,3,4] x0, float[N,2,3] x1) => (float[N,3,4] y) <int64[2,1] o = {0, 1}>"
        " { s = Sign(x1) r = Relu(s) m = Sub(r, r) b = Cast<to = 7>(m) i = Add(b, o)"
        " y = ScatterElements<axis = 1>(x0, i, x1) }",
    ],
    "Col2Im": [
        "g (float[N,8,9] x) => (float[N,2,4,4] y) <int64[2] s = {4, 4}, int64[2] b = {2, 2}> { y = Col2Im(x, s, b) }",
        "g (float[N,9,16] x) => (float[N,1,4,5] y) <int64[2] s = {4, 5}, int64[2] b = {3, 3}>"
        " { y = Col2Im<pads = [1, 0, 1, 1]>(x, s, b) }",
        "g (float[N,8,4] x) => (float[N,2,1,1] y) <int64[2] s = {6, 6}, int64[2] b = {2, 2}>"
        " { c = Col2Im<strides = [3, 3], dilations = [2, 2]>(x, s, b) y = GlobalAveragePool(c) }",
    ],
    "DFT": [
        opset(17) + "g (float[N,6,1] x) => (float[N,6,2] y) { y = DFT<axis = 1>(x) }",
        opset(17) + "g (float[N,6,4,1] x) => (float[N,6,3,2] y) { y = DFT<axis = 2, onesided = 1>(x) }",
        opset(17) + "g (float[N,5,2] x) => (float[N,5,2] y) { y = DFT<axis = 1, inverse = 1>(x) }",
    ],
    "LpPool": [
        "g (float[N,2,6,6] x) => (float[N,2,3,3] y) { y = LpPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
        "g (float[N,2,6,6] x) => (float[N,2,6,6] y)"
        " { y = LpPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1], p = 3>(x) }",
        "g (float[N,2,5,5] x) => (float[N,2,1,1] y)"
        " { l = LpPool<kernel_shape = [3, 3], p = 1>(x) y = GlobalAveragePool(l) }",
    ],
    "GlobalLpPool": [
        "g (float[N,2,4,5] x) => (float[N,2,1,1] y) { y = GlobalLpPool(x) }",
        "g (float[N,2,4,5] x) => (float[N,2,1,1] y) { y = GlobalLpPool<p = 3>(x) }",
    ],
}
