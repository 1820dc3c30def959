"""Strategies for arithmetic with broadcasting, activations and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from export.autodiff.graphs.text import braces, graph, ints, sizes, typed
from hypothesis import strategies as st


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
    inputs_and_shapes = draw(operands(full, draw(st.integers(least, most))))
    order = draw(st.permutations(inputs_and_shapes))
    before, names = "", []
    for i, (name, _) in enumerate(order):
        names.append(f"p{i}" if i in positive else name)
        before += f"p{i} = Exp({name}) " if i in positive else ""
    inputs = ", ".join(f"{typed(own)} {name}" for name, own in inputs_and_shapes)
    return graph(inputs, ["N", *full], f"{before}y = {operator}({', '.join(names)})")


@st.composite
def wheres(draw) -> str:
    full = draw(sizes())
    inputs_and_shapes = draw(st.permutations(draw(operands(full, 2))))
    inputs = ", ".join(f"{typed(own)} {name}" for name, own in inputs_and_shapes)
    (a, _), (b, _) = inputs_and_shapes
    if draw(st.booleans()):
        return graph(inputs, ["N", *full], f"c = Greater({a}, {b}) y = Where(c, {a}, {b})")
    own = [draw(st.sampled_from([1, d])) for d in full]
    flags = draw(st.lists(st.integers(0, 1), min_size=prod(own), max_size=prod(own)))
    constant = f"bool[{','.join(map(str, own))}] c = {braces(flags)}"
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
    signed_axes = [a - draw(st.sampled_from([0, len(full) + 1])) for a in axes]
    body = f"{before} y = {operator}<keepdims = {int(keep)}>(v, a)"
    return graph(f"{typed(['N', *full])} x", result, body, [ints("a", signed_axes)])


@st.composite
def global_pools(draw, operator: str) -> str:
    full = draw(sizes(draw(st.integers(2, 4))))
    return graph(f"{typed(['N', *full])} x", ["N", full[0], *[1] * (len(full) - 1)], f"y = {operator}(x)")
