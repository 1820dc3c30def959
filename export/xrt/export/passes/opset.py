"""Converting a file, up or down, to the operator set of every exported graph. ONNX's converter raises it."""

from __future__ import annotations

import re

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import PassResult

from xrt.export.ir.limits import OPSET
from xrt.export.ir.skeleton import Skeleton
from xrt.export.passes.base import GraphPass
from xrt.export.passes.lowering import lower_opset
from xrt.runtime._io import first_line
from xrt.runtime.errors import ModelError


class ConvertOpset(GraphPass):
    """Write the graph in opset 18, with the shapes that ONNX infers."""

    def call(self, model: ir.Model) -> PassResult:
        """Raises ModelError when ONNX cannot convert the graph."""
        skeleton = Skeleton.of(model)
        model.graph = Skeleton(_convert(skeleton.proto), skeleton.weights).graph().graph
        return PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """The operator set is that of every exported graph."""
        if model.opset_imports.get("") != OPSET:
            raise ValueError(f"the graph is of opset {model.opset_imports.get('')}")


def _convert(proto: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if version > OPSET:
        proto = lower_opset(proto, version)
    del proto.graph.value_info[:]
    try:
        if version >= OPSET:
            return onnx.shape_inference.infer_shapes(proto)
        return onnx.version_converter.convert_version(proto, OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own
        reason = re.sub(r"^.*?:\d+:\s*\S+:\s*", "", first_line(error))
        raise ModelError(
            f"the graph is of opset {version} and cannot be converted to {OPSET}: {reason}; export it again with "
            f"{OPSET}"
        ) from error
