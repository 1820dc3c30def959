"""Shapes in which one size, the batch, is dynamic."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from xrt.runtime.errors import ModelError


@dataclass(frozen=True)
class Batch:
    """A dynamic size: `multiple` times the number of images, written `n` or `64*n` in a graph.

    Window partitions and attention heads merge the batch axis with others, hence the multiple.
    """

    multiple: int = 1

    def __str__(self) -> str:
        return "n" if self.multiple == 1 else f"{self.multiple}*n"


Dim = int | Batch
Shape = tuple[Dim, ...]


def shape_of(value: ir.Value) -> Shape:
    """The shape of a forward value. Raises ModelError when its rank or a size other than the batch is unknown."""
    if value.shape is None:
        raise ModelError(f"the shape of {value.name!r} is unknown: export with static spatial sizes")
    return tuple(_dim(value, d) for d in value.shape)


def batch_input(graph: ir.Graph) -> ir.Value:
    """The first input whose first size is the batch. Raises ModelError when there is none."""
    for value in graph.inputs:
        if value.shape is not None and len(value.shape) and isinstance(_dim(value, value.shape[0]), Batch):
            return value
    raise ModelError("no input of the graph has a dynamic batch: export it with one")


def fixed_size(dim: Dim) -> int:
    """A size that does not depend on the batch. Raises ModelError when it does."""
    if isinstance(dim, Batch):
        raise ModelError(f"a size is {dim}, but it must not depend on the batch")
    return dim


def _dim(value: ir.Value, dim: int | ir.SymbolicDim) -> Dim:
    if isinstance(dim, int):
        return dim
    match = re.fullmatch(r"(?:(\d+)\*)?[A-Za-z_]\w*", str(dim.value))
    if match is None or dim.value is None:
        raise ModelError(f"{value.name!r} has the size {dim.value!r}: only the batch may be dynamic")
    return Batch(int(match[1] or 1))


def merge_axes(dims: Sequence[Dim]) -> Dim:
    """The size of several axes merged into one. Raises ModelError when more than one of them is the batch."""
    batches = [d for d in dims if isinstance(d, Batch)]
    if len(batches) > 1:
        raise ModelError("two axes grow with the batch: this is not supported")
    product = prod(d for d in dims if isinstance(d, int)) * prod(d.multiple for d in batches)
    return Batch(product) if batches else product


def broadcast(*shapes: Shape) -> Shape:
    """The shape of an elementwise operation. Raises ValueError when the shapes do not fit."""
    rank = max(map(len, shapes))
    full_shapes = [(1,) * (rank - len(s)) + s for s in shapes]
    result: list[Dim] = []
    for dims in zip(*full_shapes, strict=True):
        distinct = {d for d in dims if d != 1}
        if len(distinct) > 1:
            raise ValueError(f"shapes do not broadcast: {shapes}")
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)
