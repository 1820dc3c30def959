"""Strategies for convolutions, poolings, products and normalisations."""

from __future__ import annotations

from collections.abc import Sequence

from export.autodiff.graphs.text import attributes, graph, sizes, typed
from export.autodiff.oracle import opset
from hypothesis import strategies as st


@st.composite
def convolutions(draw) -> str:
    axes = draw(st.sampled_from([2, 2, 2, 1, 3]))
    groups, per_in, per_out = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    full = [r + e for r, e in zip(reach, each(0, 4), strict=True)]
    mode = draw(st.sampled_from([None, None, "SAME_UPPER", "SAME_LOWER", "VALID"]))
    pads = each(0, 2) + each(0, 2)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        dilations, results = [1] * axes, [-(-d // s) for d, s in zip(full, strides, strict=True)]
    else:
        pads = pads if mode is None else [0] * (2 * axes)
        results = [(d + pads[i] + pads[i + axes] - reach[i]) // strides[i] + 1 for i, d in enumerate(full)]
    inside = attributes(
        group=groups, strides=strides, dilations=dilations, kernel_shape=kernel, auto_pad=mode,
        pads=pads if mode is None else None,
    )  # fmt: skip
    weight = typed([groups * per_out, per_in, *kernel])
    bias = draw(st.booleans())
    inputs = f"{typed(['N', groups * per_in, *full])} x, {weight} w" + f", float[{groups * per_out}] wb" * bias
    return graph(inputs, ["N", groups * per_out, *results], f"y = Conv{inside}(x, w{', wb' * bias})")


@st.composite
def transposed_convolutions(draw) -> str:
    axes = draw(st.sampled_from([2, 2, 1, 3]))
    groups, per_in, per_out = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    kernel, strides, dilations, full = each(2, 3), each(1, 3), each(1, 2), each(2, 4)
    extra = [min(e, s - 1) for e, s in zip(each(0, 2), strides, strict=True)]
    pads = each(0, 1) + each(0, 1)
    uncut = [
        (n - 1) * s + d * (k - 1) + 1
        for n, s, d, k in zip(full, strides, dilations, kernel, strict=True)
    ]  # fmt: skip
    shape = None
    if draw(st.integers(0, 3)) == 0:
        # Shape inference gives up where the result is smaller than the input.
        shape = results = [max(d, u - e) for d, u, e in zip(full, uncut, each(0, 2), strict=True)]
        pads, extra = None, None
    else:
        results = [u + e - pads[i] - pads[i + axes] for i, (u, e) in enumerate(zip(uncut, extra, strict=True))]
    inside = attributes(
        group=groups, strides=strides, dilations=dilations, kernel_shape=kernel, pads=pads, output_padding=extra,
        output_shape=shape,
    )  # fmt: skip
    inputs = f"{typed(['N', groups * per_in, *full])} x, {typed([groups * per_in, per_out, *kernel])} w"
    return graph(inputs, ["N", groups * per_out, *results], f"y = ConvTranspose{inside}(x, w)")


@st.composite
def pools(draw, operator: str) -> str:
    axes = draw(st.sampled_from([2, 2, 1]))

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    kernel, strides, dilations = each(1, 3), each(1, 3), each(1, 2)
    mode = draw(st.sampled_from([None, None, None, "SAME_UPPER", "SAME_LOWER", "VALID"]))
    ceil = mode is None and draw(st.booleans())
    dilations = dilations if mode is None else [1] * axes
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        # ONNX Runtime computes a negative padding where a stride skips elements.
        strides = [min(s, k) for s, k in zip(strides, kernel, strict=True)]
    # Averages are dilated from opset 19 on.
    newer = operator == "AveragePool" and max(dilations) > 1
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    full = [r + e for r, e in zip(reach, each(0, 4), strict=True)]
    pads = [min(p, k - 1) if mode is None else 0 for p, k in zip(each(0, 1) + each(0, 1), kernel * 2, strict=True)]
    frees = [d + pads[i] + pads[i + axes] - reach[i] for i, d in enumerate(full)]
    # A last window that would begin in the padding is dropped by newer operator sets only: avoid the question.
    if any(-(-free // s) * s >= d + pads[i] for i, (free, s, d) in enumerate(zip(frees, strides, full, strict=True))):
        ceil = False
    if mode is None or mode == "VALID":
        results = [(-(-free // s) if ceil else free // s) + 1 for free, s in zip(frees, strides, strict=True)]
    else:
        results = [-(-d // s) for d, s in zip(full, strides, strict=True)]
    inside = attributes(
        kernel_shape=kernel, strides=strides, auto_pad=mode, pads=pads if mode is None else None,
        ceil_mode=int(ceil) if mode is None else None,
        dilations=dilations if newer or operator != "AveragePool" else None,
        p=draw(st.integers(1, 3)) if operator == "LpPool" else None,
        count_include_pad=draw(st.integers(0, 1)) if operator == "AveragePool" and mode is None else None,
    )  # fmt: skip
    text = graph(f"{typed(['N', 2, *full])} x", ["N", 2, *results], f"y = {operator}{inside}(x)")
    return opset(19) * newer + text


@st.composite
def products(draw) -> str:
    rows, inner, columns = draw(sizes(3))
    lead = draw(st.lists(st.integers(1, 3), max_size=1))
    kind = draw(st.sampled_from(["both", "weight right", "weight left", "vector right", "vector left"]))
    a: list[int | str] = ["N", *(draw(st.sampled_from([1, d])) for d in lead), rows, inner]
    b: list[int | str] = ["N", *lead, inner, columns]
    if kind == "both":
        return graph(
            f"{typed(a)} x0, {typed(b)} x1", ["N", *lead, rows, columns], "y = MatMul(x0, x1)"
        )  # fmt: skip
    a = ["N", *lead, rows, inner]
    if kind == "weight right":
        return graph(f"{typed(a)} x, {typed([inner, columns])} w", ["N", *lead, rows, columns], "y = MatMul(x, w)")
    if kind == "weight left":
        return graph(f"{typed(b)} x, {typed([rows, inner])} w", ["N", *lead, rows, columns], "y = MatMul(w, x)")
    if kind == "vector right":
        return graph(f"{typed(a)} x, {typed([inner])} w", ["N", *lead, rows], "y = MatMul(x, w)")
    return graph(f"{typed(b)} x, {typed([inner])} w", ["N", *lead, columns], "y = MatMul(w, x)")


@st.composite
def gemms(draw) -> str:
    inner, columns = draw(sizes(2))
    left, right = draw(st.booleans()), draw(st.booleans())
    inside = attributes(transA=int(left), transB=int(right), alpha=0.5, beta=draw(st.sampled_from([1.0, 2.0])))
    bias = draw(st.sampled_from(["", f"float[{columns}] wb", "float[N,1] xb", f"float[N,{columns}] xb"]))
    computed = draw(st.booleans())
    name = "x1" if computed and columns > 1 else "w"
    a, b = [inner, "N"] if left else ["N", inner], [columns, inner] if right else [inner, columns]
    if name == "x1":
        # Both computed: the sum runs over the batch.
        a, b = ["N", inner] if left else [inner, "N"], [columns, "N"] if right else ["N", columns]
        bias = ""
    last = f", {bias.split()[1]}" if bias else ""
    inputs = f"{typed(a)} x0, {typed(b)} {name}" + (f", {bias}" if bias else "")
    return graph(inputs, [inner if name == "x1" else "N", columns], f"y = Gemm{inside}(x0, {name}{last})")


@st.composite
def einsums(draw) -> str:
    size = {"n": "N", **dict(zip("abcd", draw(sizes(4)), strict=True))}
    equation = draw(
        st.sampled_from(
            ["nab,nbc->nac", "nab,bc->nac", "nab,ncb->nca", "nabc,ncd->nd", "nab,nab->n", "nab,nab->nab", "nabc->ncb",
             "nab->an", "nab,nac->nbc", "nab,cd->nac", "nab, nb -> na", "nab,b", "na,nb->nab"]
        )
    )  # fmt: skip
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    right = right or "an"
    names = ["x0" if i == 0 else "x1" if "n" in term else "w" for i, term in enumerate(terms)]
    inputs = ", ".join(f"{typed([size[c] for c in term])} {name}" for name, term in zip(names, terms, strict=True))
    inside = attributes(equation=equation)
    return graph(inputs, [size[c] for c in right], f"y = Einsum{inside}({', '.join(names)})")


@st.composite
def layer_norms(draw) -> str:
    full = draw(sizes(least=2))
    axis, bias = draw(st.integers(1, len(full))), draw(st.booleans())
    own = typed(full[axis - 1 :])
    inside = attributes(axis=axis - draw(st.sampled_from([0, len(full) + 1])), epsilon=0.01)
    inputs = f"{typed(['N', *full])} x, {own} w" + f", {own} wb" * bias
    return graph(inputs, ["N", *full], f"y = LayerNormalization{inside}(x, w{', wb' * bias})")


@st.composite
def group_norms(draw) -> str:
    groups, each = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    full = [groups * each, *draw(sizes(2, least=2, most=3))]
    # One scale for each group up to opset 20, for each channel from 21 on.
    newer = draw(st.booleans())
    scales = full[0] if newer else groups
    inputs = f"{typed(['N', *full])} x, float[{scales}] w, float[{scales}] wb"
    inside = attributes(num_groups=groups, epsilon=0.01)
    return opset(21) * newer + graph(inputs, ["N", *full], f"y = GroupNormalization{inside}(x, w, wb)")


@st.composite
def channel_norms(draw, call: str, vectors: Sequence[str], least: int = 2) -> str:
    """An operator with vectors over the channels."""
    full = draw(sizes(draw(st.sampled_from([3, 2])), least=least))
    inputs = ", ".join([f"{typed(['N', *full])} x", *(f"float[{full[0]}] {name}" for name in vectors)])
    return graph(inputs, ["N", *full], f"y = {call}({', '.join(['x', *vectors])})")


@st.composite
def local_norms(draw) -> str:
    full = [draw(st.integers(1, 6)), *draw(sizes(2))]
    inside = attributes(
        size=draw(st.sampled_from([1, 3, 5])), alpha=draw(st.sampled_from([0.5, 2.0])), beta=0.6, bias=1.5
    )  # fmt: skip
    return graph(f"{typed(['N', *full])} x", ["N", *full], f"y = LRN{inside}(x)")


@st.composite
def mean_variance_norms(draw) -> str:
    # Two values are -1 and 1 after it, for all inputs: the epsilon is negligible.
    full = draw(sizes(3, least=3))
    axes = sorted(draw(st.sets(st.integers(1, 3), min_size=1)))
    return graph(f"{typed(['N', *full])} x", ["N", *full], f"y = MeanVarianceNormalization<axes = {axes}>(x)")
