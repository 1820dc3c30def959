"""The passes of an export, in their order. `xrt export --verbose` prints them with node counts."""

from __future__ import annotations

from xrt.export.passes.base import GraphPass
from xrt.export.passes.batchnorm import FuseBatchNorms, ScaleBatchNorms, Selector
from xrt.export.passes.branches import FoldBranches
from xrt.export.passes.detached import AttachAgain
from xrt.export.passes.dynamic_batch import DynamicBatch
from xrt.export.passes.evaluation_mode import RequireEvaluationMode
from xrt.export.passes.expose_logits import ExposeLogits
from xrt.export.passes.expressible import RequireFloat32, RequireKnownOperators
from xrt.export.passes.float16 import CastToFloat16
from xrt.export.passes.input_size import FixInputSize
from xrt.export.passes.opset import ConvertOpset
from xrt.export.passes.reserved_names import FreeReservedNames
from xrt.export.passes.resolve_shapes import ResolveShapes
from xrt.export.passes.shared_weights import SeparateSharedWeights
from xrt.export.passes.simplify import Simplify
from xrt.export.passes.uint8_input import Uint8Input
from xrt.export.passes.whole_pooling import PoolWhole
from xrt.runtime.bundle.manifest import GraphSpec
from xrt.train.models import Normalisation


def torch_passes(logits: ExposeLogits) -> list[GraphPass]:
    """From what torch's exporter writes to a float graph of pixels, weights and logits."""
    checks: list[GraphPass] = [RequireEvaluationMode(), RequireFloat32(), RequireKnownOperators()]
    return [*checks, Simplify(), ResolveShapes(), PoolWhole(), logits]


def opset_passes() -> list[GraphPass]:
    """From an ONNX file of any operator set to opset 18."""
    return [RequireEvaluationMode(), RequireFloat32(), ConvertOpset(), RequireKnownOperators()]


def file_passes() -> list[GraphPass]:
    """The same, without the names that a bundle's graph gives its own values."""
    return [*opset_passes(), FreeReservedNames()]


def resolving_passes() -> list[GraphPass]:
    """From there to a graph of pixels and weights without branches, in which only the batch is dynamic."""
    return [FoldBranches(), DynamicBatch(), ResolveShapes(), PoolWhole()]


def onnx_passes(height: int, width: int, logits: ExposeLogits) -> list[GraphPass]:
    """The same for one image size, with logits as the only output."""
    return [FixInputSize(height, width), *resolving_passes(), logits]


def input_passes(normalisation: Normalisation, keep: Selector) -> list[GraphPass]:
    """The uint8 input, and batch normalisations merged into convolutions. Gradients and heatmaps come after these."""
    return [Uint8Input(normalisation), FuseBatchNorms(keep)]


def explained_passes() -> list[GraphPass]:
    """What every back end must be able to read, after the heatmaps are there."""
    return [AttachAgain(), SeparateSharedWeights()]


def scale_passes(spec: GraphSpec) -> list[GraphPass]:
    """From an explained graph to one whose numbers fit fp16, still in float32. The range scan measures this graph."""
    return [ScaleBatchNorms(spec)]


def float16_passes(spec: GraphSpec) -> list[GraphPass]:
    """From the graph of `scale_passes` to the fp16 variant."""
    return [CastToFloat16(spec)]
