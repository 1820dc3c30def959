"""What a bundle's graph cannot hold: numbers of half precision, and operators that opset 18 lacks."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.ir.dependence import dependents
from xrt.export.ir.limits import OPSET
from xrt.export.passes.base import GraphPass
from xrt.runtime.errors import ModelError

_HALF = {ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}


class RequireFloat32(GraphPass):
    """Changes nothing: gradients are emitted in float32."""

    def requires(self, model: ir.Model) -> None:
        """Nothing that depends on the image computes in half precision. Raises ModelError.

        Weights may be stored in it: a Cast of a weight is a constant.
        """
        _, pixels = dependents(model.graph)
        kinds: list[tuple[str | None, ir.DataType | None]] = []
        for node in model.graph:
            if pixels.isdisjoint(node.outputs):
                continue
            kinds += [(v.name, v.dtype) for v in node.inputs if v is not None and v.is_initializer()]
            # Up to opset 5 the attribute is text, and ONNX cannot convert the node.
            to = node.attributes.get("to") if node.op_type == "Cast" else None
            if to is not None and to.type == ir.AttributeType.INT:
                kinds.append((node.outputs[0].name, ir.DataType(to.as_int())))
        for name, kind in kinds:
            if kind is not None and kind in _HALF:
                raise ModelError(
                    f"{name!r} is {_HALF[kind]}: export the model in float32, without autocast; --precision fp16 makes "
                    "a certified variant of it"
                )

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        return PassResult(model, False)


class RequireKnownOperators(GraphPass):
    """Changes nothing. Of other domains the back ends decide."""

    def requires(self, model: ir.Model) -> None:
        """Every operator of ONNX itself is in opset 18. Raises ModelError."""
        for node in model.graph:
            if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type, OPSET):
                raise ModelError(
                    f"{node.op_type} at {node.name or node.outputs[0].name!r} is no operator of ONNX opset {OPSET}, in "
                    "which every bundle is: build the model without it"
                )

    def call(self, model: ir.Model) -> PassResult:  # noqa: D102
        return PassResult(model, False)
