"""The passes of an export, in their order. `xrt export --verbose` prints them with node counts."""

from __future__ import annotations

from xrt.export.passes.base import GraphPass
from xrt.export.passes.batchnorm import Choice, FuseBatchNorms, ScaleBatchNorms
from xrt.export.passes.dynamic_batch import DynamicBatch
from xrt.export.passes.expose_logits import ExposeLogits
from xrt.export.passes.float16 import CastToFloat16
from xrt.export.passes.input_size import FixInputSize
from xrt.export.passes.opset import ConvertOpset
from xrt.export.passes.reserved_names import FreeReservedNames
from xrt.export.passes.resolve_shapes import ResolveShapes
from xrt.export.passes.simplify import Simplify
from xrt.export.passes.uint8_input import Uint8Input
from xrt.runtime.bundle.manifest import GraphSpec
from xrt.train.models import Normalisation


def torch_passes(logits: ExposeLogits) -> list[GraphPass]:
    """From what torch's exporter writes to a float graph of pixels, weights and logits."""
    return [Simplify(), ResolveShapes(), logits]


def file_passes() -> list[GraphPass]:
    """From an ONNX file of any operator set to one that can be read further."""
    return [ConvertOpset(), FreeReservedNames()]


def resolving_passes() -> list[GraphPass]:
    """From there to a graph of pixels and weights, its batch the only open size."""
    return [DynamicBatch(), ResolveShapes()]


def onnx_passes(height: int, width: int, logits: ExposeLogits) -> list[GraphPass]:
    """The same, for one image size, with logits as the only output."""
    return [FixInputSize(height, width), *resolving_passes(), logits]


def input_passes(normalisation: Normalisation, keep: Choice) -> list[GraphPass]:
    """The uint8 input, and convolutions that take in what follows them. Gradients and heatmaps come after these."""
    return [Uint8Input(normalisation), FuseBatchNorms(keep)]


def scale_passes(spec: GraphSpec) -> list[GraphPass]:
    """From an explained graph to one that fp16 can hold, still in float32: here the range scan looks."""
    return [ScaleBatchNorms(spec)]


def float16_passes(spec: GraphSpec) -> list[GraphPass]:
    """From there to the fp16 variant."""
    return [CastToFloat16(spec)]
