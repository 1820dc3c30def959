"""Random graphs for every operator: hypothesis strategies of text graphs, shapes and attributes drawn."""

from __future__ import annotations

from export.autodiff.graphs.elementwise import (
    along_an_axis,
    broadcasting,
    clips,
    global_pools,
    powers,
    prelus,
    reductions,
    wheres,
)
from export.autodiff.graphs.indexing import (
    concats,
    cumulative_sums,
    expands,
    flattens,
    gathers,
    gathers_nd,
    pads,
    reshapes,
    resizes,
    scatters_nd,
    shuffles,
    slices,
    splits,
    squeezes,
    tiles,
    top_ks,
    transposes,
    triangles,
)
from export.autodiff.graphs.layers import (
    channel_norms,
    convolutions,
    einsums,
    gemms,
    group_norms,
    layer_norms,
    local_norms,
    mean_variance_norms,
    pools,
    products,
    transposed_convolutions,
)
from export.autodiff.graphs.text import Graphs, unary
from export.autodiff.oracle import opset
from hypothesis import strategies as st

POSITIVE = "v = Exp(x)"
SHARP = "u = Add(x, x) v = Add(u, u)"  # reaches the outer branches of an activation

VARIED: dict[str, Graphs] = {
    **{op: unary(op + "({x})") for op in [
        "Identity", "Dropout", "Neg", "Abs", "Exp", "Sin", "Cos", "Relu", "Sigmoid", "Tanh", "Erf", "Softplus",
        "Softsign", "Mish", "Selu",
    ]},
    **{op: unary("Mul({x}, s)", f"v = Identity(x) s = {op}(x)") for op in ["Ceil", "Floor", "Round", "Sign"]},
    **{op: unary(op + "({x})", POSITIVE) for op in ["Log", "Sqrt", "Reciprocal"]},
    **{op: unary(op + "({x})", SHARP) for op in ["HardSwish"]},
    **{op: unary(op + "<alpha = 0.3>({x})") for op in ["LeakyRelu", "ThresholdedRelu", "Elu", "Celu"]},
    "HardSigmoid": unary("HardSigmoid<alpha = 0.3, beta = 0.4>({x})", SHARP),
    "Gelu": st.sampled_from(["Gelu({x})", 'Gelu<approximate = "tanh">({x})']).flatmap(unary).map(opset(20).__add__),
    "Cast": unary("Cast<to = 1>({x})"),
    "CastLike": unary("CastLike({x}, {x})"),
    "Clip": clips(),
    "PRelu": prelus(),
    **{op: broadcasting(op) for op in ["Add", "Sub", "Mul"]},
    "Div": broadcasting("Div", positive=[1]),
    "Pow": powers(),
    **{op: broadcasting(op, least=1, most=4) for op in ["Max", "Min", "Sum", "Mean"]},
    "Where": wheres(),
    **{op: along_an_axis(op) for op in ["Softmax", "LogSoftmax"]},
    # Of a single value only the sign is left.
    "LpNormalization": st.sampled_from(["", ", p = 1"]).flatmap(lambda p: along_an_axis("LpNormalization", p, least=2)),
    **{op: reductions(op) for op in [
        "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceLogSumExp",
        "ReduceSumSquare", "ReduceProd",
    ]},
    "ReduceLogSum": reductions("ReduceLogSum", POSITIVE),
    **{op: global_pools(op) for op in ["GlobalAveragePool", "GlobalMaxPool"]},
    **{op: pools(op) for op in ["AveragePool", "MaxPool"]},
    "Conv": convolutions(),
    "ConvTranspose": transposed_convolutions(),
    "MatMul": products(),
    "Gemm": gemms(),
    "Einsum": einsums(),
    "BatchNormalization": channel_norms(
        "BatchNormalization<epsilon = 0.01>", ["w", "wb", "wm", "wpositive"], least=1
    ),
    "InstanceNormalization": channel_norms("InstanceNormalization<epsilon = 0.01>", ["w", "wb"]),
    "LayerNormalization": layer_norms(),
    "GroupNormalization": group_norms(),
    "LRN": local_norms(),
    "MeanVarianceNormalization": mean_variance_norms(),
    "Concat": concats(),
    "Split": splits(),
    "Slice": slices(),
    "Gather": gathers(),
    "GatherND": gathers_nd(),
    "ScatterND": scatters_nd(),
    "TopK": top_ks(),
    "Pad": pads(),
    "Transpose": transposes(),
    "Reshape": reshapes(),
    "Flatten": flattens(),
    "Squeeze": squeezes(back=False),
    "Unsqueeze": squeezes(back=True),
    "CumSum": cumulative_sums(),
    "Trilu": triangles(),
    "Tile": tiles(),
    "Expand": expands(),
    "DepthToSpace": shuffles("DepthToSpace"),
    "SpaceToDepth": shuffles("SpaceToDepth"),
    "Resize": resizes(),
}  # fmt: skip
