"""Strategies for operators that move, select, repeat or resample elements."""

from __future__ import annotations

from math import prod

from export.autodiff.graphs.text import attributes, braces, graph, ints, sizes, typed
from hypothesis import strategies as st


@st.composite
def concats(draw) -> str:
    full = draw(sizes())
    axis, parts = draw(st.integers(1, len(full))), draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    every: list[int | str] = ["N", *full]
    inputs = ", ".join(f"{typed([*every[:axis], p, *every[axis + 1 :]])} x{i}" for i, p in enumerate(parts))
    signed_axis = axis - draw(st.sampled_from([0, len(every)]))
    names = ", ".join(f"x{i}" for i in range(len(parts)))
    return graph(inputs, [*every[:axis], sum(parts), *every[axis + 1 :]], f"y = Concat<axis = {signed_axis}>({names})")


@st.composite
def splits(draw) -> str:
    full, count = draw(sizes()), draw(st.integers(2, 3))
    axis = draw(st.integers(1, len(full)))
    equal = draw(st.booleans())
    part = draw(st.integers(1, 2))
    parts = [part] * count if equal else draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    every: list[int | str] = ["N", *full]
    used_parts = draw(st.sets(st.integers(0, count - 1), min_size=1))
    names = ", ".join(f"s{i}" for i in range(count))
    inside = attributes(axis=axis - draw(st.sampled_from([0, len(every)])), num_outputs=count if equal else None)
    inputs = f"{typed([*every[:axis], sum(parts), *every[axis + 1 :]])} x"
    # Each used part is weighted by its sine, so that parts differ; some are reduced first and so constant.
    body = f"{names} = Split{inside}(x{'' if equal else ', p'}) "
    body += " ".join(f"m{i} = " + draw(st.sampled_from([f"ReduceMean(s{i}, a)", f"Sin(s{i})"])) for i in used_parts)
    body += f" c = Concat<axis = {axis}>({', '.join(f'm{i}' for i in used_parts)}) y = ReduceSum(c, a)"
    constants = [ints("a", [axis])] + ([] if equal else [ints("p", parts)])
    return graph(inputs, [*every[:axis], 1, *every[axis + 1 :]], body, constants)


@st.composite
def slices(draw) -> str:
    full = draw(sizes(least=2, most=7))
    axes = draw(st.lists(st.integers(1, len(full)), min_size=1, unique=True))
    every: list[int | str] = ["N", *full]
    result, starts, ends, steps = list(every), [], [], []
    for axis in axes:
        size = full[axis - 1]
        first, last = sorted(draw(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))))
        step = draw(st.sampled_from([1, 1, 2, 3, -1, -2]))
        if step > 0:
            start, end = first, draw(st.sampled_from([last + 1, 2**63 - 1 if last == size - 1 else last + 1]))
        else:
            start, end = last, first - 1 if first else -(2**63) + 1
        result[axis] = len(range(size)[start:end:step])
        starts.append(start - size if draw(st.booleans()) else start)
        ends.append(end)
        steps.append(step)
    signed_axis = [a - draw(st.sampled_from([0, len(every)])) for a in axes]
    constants = [ints("s", starts), ints("e", ends), ints("a", signed_axis), ints("t", steps)]
    return graph(f"{typed(every)} x", result, "y = Slice(x, s, e, a, t)", constants)


@st.composite
def gathers(draw) -> str:
    full = draw(sizes())
    axis, every = draw(st.integers(1, len(full))), ["N", *full]
    size = full[axis - 1]
    own = draw(st.lists(st.integers(1, 4), max_size=2))
    index = st.integers(-size, size - 1)
    indices = draw(
        st.one_of(
            st.lists(index, min_size=prod(own), max_size=prod(own)),
            st.just([i % size for i in range(prod(own))]),
            index.map(lambda i: [i] * prod(own)),
        )
    )
    constant = f"int64{'[' + ','.join(map(str, own)) + ']' if own else ''} i = {braces(indices)}"
    signed_axis = axis - draw(st.sampled_from([0, len(every)]))
    result = [*every[:axis], *own, *every[axis + 1 :]]
    return graph(f"{typed(every)} x", result, f"y = Gather<axis = {signed_axis}>(x, i)", [constant])


@st.composite
def gathers_nd(draw) -> str:
    full = draw(sizes(most=3))
    depth = draw(st.integers(1, len(full)))
    positions = draw(st.lists(st.tuples(*(st.integers(-d, d - 1) for d in full[:depth])), min_size=1, max_size=5))
    constant = f"int64[{len(positions)},{depth}] i = {braces([i for place in positions for i in place])}"
    return graph(f"{typed([*full, 'N'])} x", [len(positions), *full[depth:], "N"], "y = GatherND(x, i)", [constant])


@st.composite
def gathers_elements(draw) -> str:
    """Indices of -1, 0 or 1, computed from the input itself; they may reach less far than the data."""
    full = draw(sizes(least=2))
    axis = draw(st.integers(1, len(full)))
    extents = [draw(st.integers(1, d)) for d in full]
    constants = [ints("b", [0] * len(full)), ints("e", extents), ints("a", range(1, 1 + len(full)))]
    signed_axis = axis - draw(st.sampled_from([0, len(full) + 1]))
    body = f"s = Slice(x, b, e, a) t = Sign(s) i = Cast<to = 7>(t) y = GatherElements<axis = {signed_axis}>(x, i)"
    return graph(f"{typed(['N', *full])} x", ["N", *extents], body, constants)


@st.composite
def scatters_elements(draw) -> str:
    """Positions are drawn without repetition, and get the batch from the update."""
    full = draw(sizes(least=2))
    axis = draw(st.integers(1, len(full)))
    positions = draw(st.lists(st.integers(0, full[axis - 1] - 1), min_size=1, unique=True))
    extents = [len(positions) if i == axis else draw(st.integers(1, d)) for i, d in enumerate(full, 1)]
    how = draw(st.sampled_from(["none", "add"]))
    column = ",".join(map(str, [len(positions), *[1] * (len(full) - axis)]))
    body = (
        "m = Sub(x1, x1) c = Cast<to = 7>(m) i = Add(c, o)"
        f' y = ScatterElements<axis = {axis}, reduction = "{how}">(x0, i, x1)'
    )
    inputs = f"{typed(['N', *full])} x0, {typed(['N', *extents])} x1"
    return graph(inputs, ["N", *full], body, [f"int64[{column}] o = {braces(positions)}"])


@st.composite
def blocks(draw) -> str:
    axes = 2  # of one axis ONNX Runtime (1.31) computes something else than the definition

    def each(low: int, high: int) -> list[int]:
        return draw(st.lists(st.integers(low, high), min_size=axes, max_size=axes))

    block, strides, dilations, pads = each(1, 3), each(1, 3), each(1, 2), each(0, 1) + each(0, 1)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, block, strict=True)]
    image = [r + e for r, e in zip(reach, each(0, 3), strict=True)]
    counts = [(image[i] + pads[i] + pads[i + axes] - reach[i]) // strides[i] + 1 for i in range(axes)]
    channels = draw(st.integers(1, 2))
    inside = attributes(strides=strides, dilations=dilations, pads=pads)
    inputs = f"{typed(['N', channels * prod(block), prod(counts)])} x"
    return graph(inputs, ["N", channels, *image], f"y = Col2Im{inside}(x, s, b)", [ints("s", image), ints("b", block)])


@st.composite
def fourier_transforms(draw) -> str:
    full = draw(sizes(most=5))
    axis, parts = draw(st.integers(1, len(full))), draw(st.sampled_from([1, 2]))
    onesided = draw(st.integers(0, 1)) if parts == 1 else 0
    inverse = 0 if onesided else draw(st.integers(0, 1))
    length = full[axis - 1]
    result = [length // 2 + 1 if onesided and i == axis else d for i, d in enumerate(full, 1)]
    inside = attributes(axis=axis, onesided=onesided, inverse=inverse)
    return graph(f"{typed(['N', *full, parts])} x", ["N", *result, 2], f"y = DFT{inside}(x)")


@st.composite
def scatters_nd(draw) -> str:
    full = draw(sizes(most=3))
    depth = draw(st.integers(1, len(full)))
    how = draw(st.sampled_from(["none", "add"]))
    places = st.tuples(*(st.integers(0, d - 1) for d in full[:depth]))
    positions = draw(st.lists(places, min_size=1, max_size=5, unique=how == "none"))
    constant = f"int64[{len(positions)},{depth}] i = {braces([i for place in positions for i in place])}"
    names = draw(st.sampled_from([("x0", "x1"), ("x", "w"), ("w", "x")]))
    batch = "N" if "w" not in names else 2
    shapes = [typed([*full, batch]), typed([len(positions), *full[depth:], batch])]
    inputs = ", ".join(f"{shape} {name}" for shape, name in zip(shapes, names, strict=True))
    body = f'y = ScatterND<reduction = "{how}">({names[0]}, i, {names[1]})'
    return graph(inputs, [*full, batch], body, [constant])


@st.composite
def top_ks(draw) -> str:
    full = draw(sizes())
    axis = draw(st.integers(1, len(full)))
    k = draw(st.integers(1, full[axis - 1]))
    signed_axis = axis - draw(st.sampled_from([0, len(full) + 1]))
    result = ["N", *full[: axis - 1], k, *full[axis:]]
    body = f"y, i = TopK<axis = {signed_axis}, largest = {draw(st.integers(0, 1))}>(x, k)"
    return graph(f"{typed(['N', *full])} x", result, body, [ints("k", [k])])


@st.composite
def pads(draw) -> str:
    mode = draw(st.sampled_from(["constant", "reflect", "edge"]))
    full = draw(sizes(least=3, most=6))
    # Each at most one less than the size, which is what reflection can give; both negative leave one element.
    each = [(draw(st.integers(-1, d - 1)), draw(st.integers(-1, d - 1))) for d in full]
    if mode != "constant":
        each = [(max(0, b), max(0, a)) for b, a in each]
    every: list[int | str] = ["N", *full]
    result = ["N", *(d + b + a for d, (b, a) in zip(full, each, strict=True))]
    inside = attributes(mode=mode)
    if draw(st.booleans()):
        constants = [ints("p", [0, *(b for b, _ in each), 0, *(a for _, a in each)])]
        return graph(f"{typed(every)} x", result, f"y = Pad{inside}(x, p)", constants)
    axis = draw(st.integers(1, len(full)))
    padding = sum(each[axis - 1])
    result = [d if i != axis else full[axis - 1] + padding for i, d in enumerate(every)]
    constants = [ints("p", each[axis - 1]), ints("a", [axis - len(every)]), "float v = {0.5}"]
    return graph(f"{typed(every)} x", result, f"y = Pad{inside}(x, p, v, a)", constants)


@st.composite
def transposes(draw) -> str:
    full = ["N", *draw(sizes())]
    order = draw(st.permutations(range(len(full))))
    inside = "" if order == list(reversed(range(len(full)))) else f"<perm = {list(order)}>"
    return graph(f"{typed(full)} x", [full[i] for i in order], f"y = Transpose{inside}(x)")


@st.composite
def reshapes(draw) -> str:
    """Through factors: what was split by one shape is merged otherwise by the other."""
    factors = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))

    def merged() -> list[int]:
        cuts = [*sorted(draw(st.sets(st.integers(1, len(factors))))), len(factors)]
        return [prod(factors[a:b]) for a, b in zip([0, *cuts[:-1]], cuts, strict=True) if a < b] or [prod(factors)]

    before, after = merged(), merged()
    return graph(
        f"{typed(['N', *before])} x", ["N", *after], "y = Reshape(x, s)", [ints("s", [-1, *after])]
    )  # fmt: skip


@st.composite
def flattens(draw) -> str:
    full = draw(sizes())
    return graph(f"{typed(['N', *full])} x", ["N", prod(full)], "y = Flatten<axis = 1>(x)")


@st.composite
def squeezes(draw, back: bool) -> str:
    full = draw(sizes())
    at = draw(st.integers(1, len(full) + 1))
    small, large = ["N", *full], ["N", *full[: at - 1], 1, *full[at - 1 :]]
    signed_axis = [at - draw(st.sampled_from([0, len(large)]))]
    operator, a, b = ("Unsqueeze", small, large) if back else ("Squeeze", large, small)
    return graph(f"{typed(a)} x", b, f"y = {operator}(x, a)", [ints("a", signed_axis)])


@st.composite
def cumulative_sums(draw) -> str:
    full = draw(sizes())
    every: list[int | str] = ["N", *full]
    axis = draw(st.integers(1, len(full)))
    inside = attributes(exclusive=draw(st.integers(0, 1)), reverse=draw(st.integers(0, 1)))
    signed_axis = axis - draw(st.sampled_from([0, len(every)]))
    return graph(f"{typed(every)} x", every, f"y = CumSum{inside}(x, a)", [f"int64 a = {{{signed_axis}}}"])


@st.composite
def triangles(draw) -> str:
    full = draw(sizes(least=2))
    every: list[int | str] = ["N", *full] if len(full) > 1 else ["N", *full, 3]
    inside = attributes(upper=draw(st.integers(0, 1)))
    diagonal = f"int64 k = {{{draw(st.integers(-3, 3))}}}"
    return graph(f"{typed(every)} x", every, f"y = Trilu{inside}(x, k)", [diagonal])


@st.composite
def tiles(draw) -> str:
    full = draw(sizes())
    repeats = [draw(st.integers(1, 3)) for _ in full]
    result = ["N", *(d * r for d, r in zip(full, repeats, strict=True))]
    return graph(f"{typed(['N', *full])} x", result, "y = Tile(x, r)", [ints("r", [1, *repeats])])


@st.composite
def expands(draw) -> str:
    full = draw(sizes())
    own = [draw(st.sampled_from([1, d])) for d in full]
    return graph(f"{typed(['N', *own])} x", ["N", *full], "y = Expand(x, s)", [ints("s", [1, *full])])


@st.composite
def shuffles(draw, operator: str) -> str:
    b, (depth, h, w) = draw(st.integers(1, 3)), draw(sizes(3, most=3))
    deep, wide = ["N", depth * b * b, h, w], ["N", depth, h * b, w * b]
    if operator == "SpaceToDepth":
        return graph(f"{typed(wide)} x", deep, f"y = SpaceToDepth<blocksize = {b}>(x)")
    inside = attributes(blocksize=b, mode=draw(st.sampled_from(["DCR", "CRD"])))
    return graph(f"{typed(deep)} x", wide, f"y = DepthToSpace{inside}(x)")


@st.composite
def resizes(draw) -> str:
    full = [2, *draw(sizes(2, least=2, most=4))]
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    places = ["half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel"]
    inside = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(places))}
    if mode == "nearest":
        inside["nearest_mode"] = draw(st.sampled_from(["floor", "ceil", "round_prefer_floor"]))
    by_size = draw(st.booleans())
    # Halves and doubles are exact in float32; a scale of 1.5 floors the size.
    scales = [draw(st.sampled_from([0.5, 1.0, 1.5, 2.0])) for _ in full[1:]]
    if inside["coordinate_transformation_mode"] == "align_corners":
        # ONNX's reference evaluator puts the last corner at a size that is not whole, runtimes do not.
        scales = [float(max(1, int(s))) for s in scales]
    result = ["N", 2, *(max(1, int(d * s)) for d, s in zip(full[1:], scales, strict=True))]
    if 1 in result[2:] and inside["coordinate_transformation_mode"] == "pytorch_half_pixel":
        # Has a test of its own: ONNX's reference evaluator is wrong here.
        inside["coordinate_transformation_mode"] = "half_pixel"
    if by_size:
        body, constants = f"y = Resize{attributes(**inside, axes=[2, 3])}(x, , , s)", [ints("s", result[2:])]
    else:
        numbers = ", ".join(map(str, [1.0, 1.0, *scales]))
        body, constants = f"y = Resize{attributes(**inside)}(x, , scales)", [f"float[4] scales = {{{numbers}}}"]
    return graph(f"{typed(['N', *full])} x", result, body, constants)
