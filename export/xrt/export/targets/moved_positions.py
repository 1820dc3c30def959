"""Whether the image was flipped or cropped before a target: then its maps lie otherwise than the radiograph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from xrt.export.ir.constants import array_of
from xrt.export.ir.operators import MIXING


def moved_positions(target: ir.Value) -> tuple[str, ...]:
    """What moves the image's positions before a target, each in a few words.

    A flip anywhere before it, and a crop of the image before anything mixes it: a slice whose parts are joined again,
    as in a roll or a Focus stem, is neither.
    """
    notes: list[str] = []
    queue, visited = [target], set[ir.Value]()
    while queue:
        value = queue.pop()
        if value in visited or (node := value.producer()) is None:
            continue
        visited.add(value)
        queue.extend(v for v in node.inputs if v is not None)
        if node.op_type != "Slice" or all(user.op_type == "Concat" for user, _ in value.uses()):
            continue
        numbers = [None if v is None else array_of(v) for v in node.inputs[1:]]
        starts, ends, axes, steps = (*numbers, None, None)[:4]
        rank = len(value.shape or ())
        if starts is None or ends is None or rank != 4:
            continue
        axes = np.arange(len(starts)) if axes is None else axes
        steps = np.ones(len(starts), dtype=np.int64) if steps is None else steps
        source = node.inputs[0]
        for start, end, axis, step in zip(starts, ends, axes % rank, steps, strict=True):
            size = source.shape[int(axis)] if source is not None and source.shape is not None else None
            if axis < 2 or not isinstance(size, int):
                continue
            side = "mirrored left to right" if axis == 3 else "turned upside down"
            if step < 0:
                notes.append(f"the image is {side} before it ({value.name})")
            elif step == 1 and _cuts(int(start), int(end), size) and not _is_mixed(source):
                notes.append(f"the image is cropped before it ({value.name})")
    return tuple(dict.fromkeys(notes))


def _cuts(start: int, end: int, size: int) -> bool:
    """Whether a slice of an axis leaves something out."""
    first = max(start + size, 0) if start < 0 else start
    last = end + size if end < 0 else min(end, size)
    return (first, last) != (0, size)


def _is_mixed(value: ir.Value | None) -> bool:
    """Whether a convolution or a matrix product lies before a value."""
    queue, visited = [value], set[ir.Value]()
    while queue:
        step = queue.pop()
        if step is None or step in visited or (node := step.producer()) is None:
            continue
        visited.add(step)
        if node.op_type in MIXING:
            return True
        queue.extend(node.inputs)
    return False
