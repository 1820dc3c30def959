"""Whether the image was flipped or cropped before a target: then its maps lie otherwise than the radiograph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from xrt.export.ir.constants import array_of
from xrt.export.ir.dependence import nodes_before
from xrt.export.ir.operators import MIXING


def moved_positions(graph: ir.Graph, target: ir.Value) -> tuple[str, ...]:
    """What moves the image's positions before a target, each in a few words.

    A flip anywhere before it, and a crop of the image before anything mixes it: a slice whose parts are joined again,
    as in a roll or a Focus stem, is neither. Of a target that is itself a padded map, the border is not of the image.
    """
    notes: list[str] = []
    producer = target.producer()
    if producer is not None and producer.op_type == "Pad" and _grows(producer):
        notes.append(f"it has a border that is not of the image ({target.name})")
    for node in nodes_before(graph, [target]):
        if node.op_type != "Slice" or all(user.op_type == "Concat" for user, _ in node.outputs[0].uses()):
            continue
        source, name = node.inputs[0], node.outputs[0].name
        numbers = [None if v is None else array_of(v) for v in node.inputs[1:]]
        starts, ends, axes, steps = (*numbers, None, None)[:4]
        if source is None or source.shape is None or len(source.shape) != 4 or starts is None or ends is None:
            continue
        axes = np.arange(len(starts)) if axes is None else axes % 4
        steps = np.ones(len(starts), dtype=np.int64) if steps is None else steps
        for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
            size = source.shape[int(axis)]
            if axis < 2 or not isinstance(size, int):
                continue
            if step < 0:
                side = "mirrored left to right" if axis == 3 else "turned upside down"
                notes.append(f"the image is {side} before it ({name})")
            elif step == 1 and len(range(size)[int(start) : int(end)]) < size and not _is_mixed(graph, source):
                notes.append(f"the image is cropped before it ({name})")
    return tuple(dict.fromkeys(notes))


def _grows(node: ir.Node) -> bool:
    source, result = node.inputs[0], node.outputs[0]
    return source is not None and source.shape is not None and result.shape is not None and source.shape != result.shape


def _is_mixed(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether a convolution or a matrix product lies before a value."""
    return any(node.op_type in MIXING for node in nodes_before(graph, [value]))
