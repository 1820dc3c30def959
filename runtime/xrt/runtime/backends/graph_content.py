"""What a serialised graph must not hold, found without the onnx package: data outside the file, and loops.

A file's hash covers its bytes alone. External data are covered by nothing, and OpenVINO would read them from the
working directory. A loop may run for ever, and no graph that is exported here has one.

The file is a protobuf message of onnx.proto: fields of a number and a wire type, one after another. Only the fields
that lead to tensors and nodes are entered; the bytes of weights are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

from xrt.runtime.errors import BackendError

_MODEL = {7: "graph", 25: "function"}
_CHILDREN: dict[str, dict[int, str]] = {
    "model": _MODEL,
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""The messages inside each message, by field number."""
_OP_TYPE, _LOCATION, _EXTERNAL_DATA = 4, 14, 13
_LOOPS = {b"Loop", b"Scan"}
_DEPTH = 64
_BYTES, _VARINT, _FIXED32, _FIXED64 = 2, 0, 5, 1


def require_self_contained(model: bytes) -> None:
    """Raise BackendError for a graph that keeps data outside the file, or that loops; also for what is no protobuf."""
    try:
        _check(memoryview(model), "model", 0)
    except (IndexError, ValueError) as error:
        raise BackendError("the graph is no ONNX file, or a part of one: copy the bundle again") from error


def _check(message: memoryview, kind: str, depth: int) -> None:
    if depth > _DEPTH:
        raise BackendError(f"the graph is nested {_DEPTH} levels deep: no exported graph is")
    children = _CHILDREN[kind]
    for number, value in _fields(message):
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _LOCATION and value)):
            raise BackendError(
                "the graph keeps external data, weights outside its file, which no hash covers: export it again, "
                "with its weights inside"
            )
        if kind == "node" and number == _OP_TYPE and isinstance(value, memoryview) and bytes(value) in _LOOPS:
            raise BackendError(
                f"the graph has a {bytes(value).decode()}, which may run without end: export the model without loops"
            )
        if number in children and isinstance(value, memoryview):
            _check(value, children[number], depth + 1)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of a message: number, and bytes or a whole number. Raises ValueError or IndexError for others."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == _BYTES:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError("a field ends after its message")
            yield number, message[position : position + size]
            position += size
        elif wire == _VARINT:
            value, position = _varint(message, position)
            yield number, value
        elif wire in (_FIXED32, _FIXED64):
            position += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
