"""Cutting a graph down to what one output needs, without the onnx package.

ONNX Runtime runs every node of a graph, whichever outputs are asked for, and `RunOptions.only_execute_path_to_fetches`
is without effect in its releases. So a session that is asked for logits alone opens a smaller graph. An ONNX file is a
protobuf message; the few fields that matter here are numbered in onnx.proto, and everything else is copied as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_ATTRIBUTE = 1, 2, 5
_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 6, 11
_TENSOR_NAME, _VALUE_NAME = 8, 1


def keep_output(model: bytes, output: str) -> bytes:
    """An ONNX file whose only output is `output`, with the nodes and weights that it needs.

    A graph with branches or loops loses outputs alone. Raises ValueError when the bytes are no ONNX file, or have no
    such output.
    """
    view = memoryview(model)
    parts = [
        _field(number, _pruned(value, output)) if number == _MODEL_GRAPH else bytes(raw)
        for number, value, raw in _fields(view)
    ]
    return b"".join(parts)


def _pruned(graph: memoryview, output: str) -> bytes:
    fields = list(_fields(graph))
    if not any(number == _GRAPH_OUTPUT and _text(value, _VALUE_NAME) == output for number, value, _ in fields):
        raise ValueError(f"the graph has no output {output!r}")
    nodes = {i: _Node(value) for i, (number, value, _) in enumerate(fields) if number == _GRAPH_NODE}
    node_indices, needed = set(nodes), {output}
    if not any(node.branches for node in nodes.values()):
        node_indices.clear()
        for i in sorted(nodes, reverse=True):
            if needed.intersection(nodes[i].outputs):
                node_indices.add(i)
                needed.update(nodes[i].inputs)
    else:
        needed = None

    def is_needed(i: int, number: int, value: memoryview) -> bool:
        if number == _GRAPH_NODE:
            return i in node_indices
        if number == _GRAPH_OUTPUT:
            return _text(value, _VALUE_NAME) == output
        return number != _GRAPH_INITIALIZER or needed is None or _text(value, _TENSOR_NAME) in needed

    return b"".join(bytes(raw) for i, (number, value, raw) in enumerate(fields) if is_needed(i, number, value))


class _Node:
    def __init__(self, message: memoryview) -> None:
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.branches = False
        for number, value, _ in _fields(message):
            if number in (_NODE_INPUT, _NODE_OUTPUT):
                (self.inputs if number == _NODE_INPUT else self.outputs).append(bytes(value).decode())
            elif number == _NODE_ATTRIBUTE:
                self.branches |= any(n in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS) for n, _, _ in _fields(value))


def _text(message: memoryview, field: int) -> str | None:
    return next((bytes(value).decode() for number, value, _ in _fields(message) if number == field), None)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview, memoryview]]:
    """The fields of a message in order: number, payload, and payload with its tag."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            begin, (_, at) = at, _varint(message, at)
        elif kind == _BYTES:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind in (_FIXED32, _FIXED64):
            begin, at = at, at + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError("not an ONNX file")
        if at > len(message):
            raise ValueError("not an ONNX file: it ends too early")
        yield number, message[begin:at], message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, seven bits per byte, the lowest first; and where it ends."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
    raise ValueError("not an ONNX file: it ends too early")


def _field(number: int, payload: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(payload)) + payload


def _encoded(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
