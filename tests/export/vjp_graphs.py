"""Random graphs for every operator: hypothesis strategies of text graphs, shapes and attributes drawn."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from export.oracle import opset
from hypothesis import strategies as st

Graphs = st.SearchStrategy[str]


def typed(sizes: Sequence[int | str]) -> str:
    return f"float[{','.join(map(str, sizes))}]" if sizes else "float"


def listed(values: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def ints(name: str, values: Sequence[int]) -> str:
    """An int64 constant of one axis, as an initialiser."""
    return f"int64[{len(values)}] {name} = {listed(values)}"


def graph(inputs: str, sizes: Sequence[int | str], body: str, constants: Sequence[str] = ()) -> str:
    """The text of a graph whose output has these sizes."""
    held = f" <{', '.join(constants)}>" if constants else ""
    return f"g ({inputs}) => ({typed(sizes)} y){held} {{ {body} }}"


def sizes(rank: int | None = None, least: int = 1, most: int = 4) -> st.SearchStrategy[list[int]]:
    """The sizes behind the batch."""
    return st.lists(st.integers(least, most), min_size=rank or 1, max_size=rank or 3)


def unary(call: str, before: str = "") -> Graphs:
    """`call` with {x} for its operand, at a random shape; `before` makes v from x."""
    body = f"{before} y = {call.format(x='v' if before else 'x')}"
    return sizes(None).map(lambda s: graph(f"{typed(['N', *s])} x", ["N", *s], body))


@st.composite
def operands(draw, full: list[int], count: int) -> list[tuple[str, list[int | str]]]:
    """Operands that broadcast to [N, *full]: the first carries a gradient, others may be constants of lower rank."""
    result: list[tuple[str, list[int | str]]] = []
    for i in range(count):
        own: list[int | str] = [draw(st.sampled_from([1, d])) for d in full]
        if i and draw(st.booleans()):
            own = own[draw(st.integers(0, len(own))) :]
            result.append((f"w{i}", own))
        else:
            result.append((f"x{i}", ["N", *own]))
    widest = max(range(count), key=lambda i: result[i][0].startswith("x"))
    # One operand has every axis, so that the result is as declared.
    result[widest] = (result[widest][0], ["N", *full])
    return result


@st.composite
def broadcasting(draw, operator: str, least: int = 2, most: int = 2, positive: Sequence[int] = ()) -> str:
    full = draw(sizes())
    drawn = draw(operands(full, draw(st.integers(least, most))))
    order = draw(st.permutations(drawn))
    before, names = "", []
    for i, (name, _) in enumerate(order):
        names.append(f"p{i}" if i in positive else name)
        before += f"p{i} = Exp({name}) " if i in positive else ""
    inputs = ", ".join(f"{typed(own)} {name}" for name, own in drawn)
    return graph(inputs, ["N", *full], f"{before}y = {operator}({', '.join(names)})")


@st.composite
def wheres(draw) -> str:
    full = draw(sizes())
    drawn = draw(st.permutations(draw(operands(full, 2))))
    inputs = ", ".join(f"{typed(own)} {name}" for name, own in drawn)
    (a, _), (b, _) = drawn
    if draw(st.booleans()):
        return graph(inputs, ["N", *full], f"c = Greater({a}, {b}) y = Where(c, {a}, {b})")
    own = [draw(st.sampled_from([1, d])) for d in full]
    flags = draw(st.lists(st.integers(0, 1), min_size=prod(own), max_size=prod(own)))
    constant = f"bool[{','.join(map(str, own))}] c = {listed(flags)}"
    return graph(inputs, ["N", *full], f"y = Where(c, {a}, {b})", [constant])


@st.composite
def powers(draw) -> str:
    if draw(st.booleans()):
        return draw(broadcasting("Pow", positive=[0]))
    full, p = draw(sizes()), draw(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0, 1.7, 2.0, 3.0, 4.0]))
    base = "v = Exp(x)" if p != int(p) else "v = Identity(x)"
    return graph(f"{typed(['N', *full])} x", ["N", *full], f"{base} y = Pow(v, p)", [f"float p = {{{p}}}"])


@st.composite
def clips(draw) -> str:
    full, low, high = draw(sizes()), draw(st.booleans()), draw(st.booleans())
    body = f"y = Clip(x, {'l' if low else ''}{', h' if high else ''})" if low or high else "y = Clip(x)"
    constants = ["float l = {-0.5}"] * low + ["float h = {0.6}"] * high
    return graph(f"{typed(['N', *full])} x", ["N", *full], body, constants)


@st.composite
def prelus(draw) -> str:
    full = draw(sizes())
    own = [draw(st.sampled_from([1, d])) for d in full]
    slope = draw(st.sampled_from([f"{typed(own)} w", f"{typed(['N', *own])} x1"]))
    return graph(f"{typed(['N', *full])} x0, {slope}", ["N", *full], f"y = PRelu(x0, {slope.split()[1]})")


@st.composite
def along_an_axis(draw, operator: str, attributes: str = "", least: int = 1) -> str:
    """An operator that keeps shapes and has an axis other than the batch."""
    full = draw(sizes(least=least))
    axis = draw(st.integers(1, len(full))) - draw(st.sampled_from([0, len(full) + 1]))
    return graph(
        f"{typed(['N', *full])} x", ["N", *full], f"y = {operator}<axis = {axis}{attributes}>(x)"
    )  # fmt: skip


@st.composite
def reductions(draw, operator: str, before: str = "v = Identity(x)") -> str:
    full, keep = draw(sizes()), draw(st.booleans())
    axes = draw(st.lists(st.integers(1, len(full)), min_size=1, unique=True))
    result = [1 if i in axes else d for i, d in enumerate(["N", *full]) if keep or i not in axes]
    signed = [a - draw(st.sampled_from([0, len(full) + 1])) for a in axes]
    body = f"{before} y = {operator}<keepdims = {int(keep)}>(v, a)"
    return graph(f"{typed(['N', *full])} x", result, body, [ints("a", signed)])


@st.composite
def global_pools(draw, operator: str) -> str:
    full = draw(sizes(draw(st.integers(2, 4))))
    return graph(f"{typed(['N', *full])} x", ["N", full[0], *[1] * (len(full) - 1)], f"y = {operator}(x)")


def attributes(**values: object) -> str:
    """`<name = value, …>`; what is None is left out."""
    written = {
        name: f'"{v}"' if isinstance(v, str) else str(list(v)) if isinstance(v, (list, tuple)) else str(v)
        for name, v in values.items()
        if v is not None
    }
    return "<" + ", ".join(f"{name} = {v}" for name, v in written.items()) + ">" if written else ""


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
        ceil_mode=int(ceil) if mode is None else None, dilations=dilations if newer or operator == "MaxPool" else None,
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
    # Two values are -1 and 1 after it, whatever they were: there is no epsilon to speak of.
    full = draw(sizes(3, least=3))
    axes = sorted(draw(st.sets(st.integers(1, 3), min_size=1)))
    return graph(f"{typed(['N', *full])} x", ["N", *full], f"y = MeanVarianceNormalization<axes = {axes}>(x)")


@st.composite
def concats(draw) -> str:
    full = draw(sizes())
    axis, parts = draw(st.integers(1, len(full))), draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    every: list[int | str] = ["N", *full]
    inputs = ", ".join(f"{typed([*every[:axis], p, *every[axis + 1 :]])} x{i}" for i, p in enumerate(parts))
    signed = axis - draw(st.sampled_from([0, len(every)]))
    names = ", ".join(f"x{i}" for i in range(len(parts)))
    return graph(inputs, [*every[:axis], sum(parts), *every[axis + 1 :]], f"y = Concat<axis = {signed}>({names})")


@st.composite
def splits(draw) -> str:
    full, count = draw(sizes()), draw(st.integers(2, 3))
    axis = draw(st.integers(1, len(full)))
    equal = draw(st.booleans())
    part = draw(st.integers(1, 2))
    parts = [part] * count if equal else draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    every: list[int | str] = ["N", *full]
    used = draw(st.sets(st.integers(0, count - 1), min_size=1))
    names = ", ".join(f"s{i}" for i in range(count))
    inside = attributes(axis=axis - draw(st.sampled_from([0, len(every)])), num_outputs=count if equal else None)
    inputs = f"{typed([*every[:axis], sum(parts), *every[axis + 1 :]])} x"
    # Each used part is weighted by its sine, so that parts differ; some are reduced first and so constant.
    body = f"{names} = Split{inside}(x{'' if equal else ', p'}) "
    body += " ".join(f"m{i} = " + draw(st.sampled_from([f"ReduceMean(s{i}, a)", f"Sin(s{i})"])) for i in used)
    body += f" c = Concat<axis = {axis}>({', '.join(f'm{i}' for i in used)}) y = ReduceSum(c, a)"
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
    signed = [a - draw(st.sampled_from([0, len(every)])) for a in axes]
    constants = [ints("s", starts), ints("e", ends), ints("a", signed), ints("t", steps)]
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
    constant = f"int64{'[' + ','.join(map(str, own)) + ']' if own else ''} i = {listed(indices)}"
    signed = axis - draw(st.sampled_from([0, len(every)]))
    result = [*every[:axis], *own, *every[axis + 1 :]]
    return graph(f"{typed(every)} x", result, f"y = Gather<axis = {signed}>(x, i)", [constant])


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
    grown = sum(each[axis - 1])
    result = [d if i != axis else full[axis - 1] + grown for i, d in enumerate(every)]
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
    signed = [at - draw(st.sampled_from([0, len(large)]))]
    operator, a, b = ("Unsqueeze", small, large) if back else ("Squeeze", large, small)
    return graph(f"{typed(a)} x", b, f"y = {operator}(x, a)", [ints("a", signed)])


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
    "Pad": pads(),
    "Transpose": transposes(),
    "Reshape": reshapes(),
    "Flatten": flattens(),
    "Squeeze": squeezes(back=False),
    "Unsqueeze": squeezes(back=True),
    "Tile": tiles(),
    "Expand": expands(),
    "DepthToSpace": shuffles("DepthToSpace"),
    "SpaceToDepth": shuffles("SpaceToDepth"),
    "Resize": resizes(),
}  # fmt: skip
