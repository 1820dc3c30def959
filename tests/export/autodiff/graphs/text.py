"""Graphs as text: pieces that the strategies put together."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

Graphs = st.SearchStrategy[str]


def typed(sizes: Sequence[int | str]) -> str:
    return f"float[{','.join(map(str, sizes))}]" if sizes else "float"


def braces(values: Sequence[int]) -> str:
    return "{" + ", ".join(map(str, values)) + "}"


def ints(name: str, values: Sequence[int]) -> str:
    """An int64 constant of one axis, as an initialiser."""
    return f"int64[{len(values)}] {name} = {braces(values)}"


def graph(inputs: str, sizes: Sequence[int | str], body: str, constants: Sequence[str] = ()) -> str:
    """The text of a graph whose output has these sizes."""
    initialisers = f" <{', '.join(constants)}>" if constants else ""
    return f"g ({inputs}) => ({typed(sizes)} y){initialisers} {{ {body} }}"


def sizes(rank: int | None = None, least: int = 1, most: int = 4) -> st.SearchStrategy[list[int]]:
    """The sizes after the batch."""
    return st.lists(st.integers(least, most), min_size=rank or 1, max_size=rank or 3)


def unary(call: str, before: str = "") -> Graphs:
    """`call` with {x} for its operand, at a random shape; `before` makes v from x."""
    body = f"{before} y = {call.format(x='v' if before else 'x')}"
    return sizes(None).map(lambda s: graph(f"{typed(['N', *s])} x", ["N", *s], body))


def attributes(**values: object) -> str:
    """`<name = value, …>`; what is None is left out."""
    texts = {
        name: f'"{v}"' if isinstance(v, str) else str(list(v)) if isinstance(v, (list, tuple)) else str(v)
        for name, v in values.items()
        if v is not None
    }
    return "<" + ", ".join(f"{name} = {v}" for name, v in texts.items()) + ">" if texts else ""
