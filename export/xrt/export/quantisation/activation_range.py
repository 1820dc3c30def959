"""The range scan: how large the numbers become where a variant computes in fp16.

Fp16 ends at 65504. A CPU computes the cast graph in float32 and so cannot show an overflow; the float32 graph,
measured tensor by tensor, can.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from jaxtyping import UInt8

from xrt.export.ir.constants import array_of
from xrt.export.ir.plain_graph import PlainGraph
from xrt.export.ir.skeleton import Skeleton

_BATCH = 8


def peaks(model: ir.Model, nodes: Sequence[ir.Node], images: UInt8[np.ndarray, "n 1 height width"]) -> dict[str, float]:
    """The largest magnitude of every float value that `nodes` of the float32 `model` read or give, by name."""
    values = dict.fromkeys(v for node in nodes for v in (*node.inputs, *node.outputs) if v is not None and v.name)
    magnitudes: dict[str, float] = {}
    names: list[str] = []
    for value in values:
        array = array_of(value)
        if array is None and value.dtype == ir.DataType.FLOAT:
            names.append(str(value.name))
        elif array is not None and array.dtype == np.float32:
            magnitudes[str(value.name)] = float(np.abs(array).max(initial=0.0))
    skeleton = Skeleton.of(model)
    proto = skeleton.proto
    del proto.graph.output[:]
    outputs = []
    for name in names:
        magnitude, peak = f"magnitude of {name}", f"peak of {name}"
        proto.graph.node.add(op_type="Abs", input=[name], output=[magnitude])
        proto.graph.node.add(op_type="ReduceMax", input=[magnitude], output=[peak]).attribute.add(
            name="keepdims", i=0, type=2
        )
        proto.graph.output.add(name=peak)
        outputs.append(peak)
    graph, image = PlainGraph(skeleton), proto.graph.input[0].name
    for start in range(0, len(images), _BATCH):
        batch = graph.run({image: images[start : start + _BATCH]}, outputs)
        for name, peak in zip(names, outputs, strict=True):
            magnitudes[name] = float(np.maximum(magnitudes.get(name, 0.0), batch[peak]))
    return magnitudes
