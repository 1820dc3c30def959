"""Whose fault it is that a file misses its limits: its own, or the optimiser's of the back end that ran it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xrt.runtime.backends import Backend, Session, SessionOptions
from xrt.runtime.backends.onnxruntime import WRONG_PASSES, OnnxRuntimeCpu
from xrt.runtime.bundle.manifest import GraphInterface
from xrt.runtime.errors import BackendError

PASSES = (
    "Pad_Fusion", "ConstantFolding", "CommonSubexpressionElimination", "ConvAddFusion", "ConvMulFusion", "ConvBNFusion",
    "ConvAddActivationFusion", "ConvActivationFusion", "ReluClipFusion", "MatMulAddFusion", "MatMulScaleFusion",
    "MatmulTransposeFusion", "MatMul_BatchNormalization_Fusion", "MatMulActivationFusion", "GemmActivationFusion",
    "GemmSumFusion", "GemmTransposeFusion", "LayerNormFusion", "SimplifiedLayerNormFusion", "SkipLayerNormFusion",
    "AttentionFusion", "GeluFusion", "FastGeluFusion", "QuickGeluFusion", "BiasGeluFusion", "BiasSoftmaxFusion",
    "ReshapeFusion", "ConcatSliceElimination", "SliceElimination", "GatherToSliceFusion", "GatherSliceToSplitFusion",
    "TransposeOptimizer", "NchwcTransformer", "NhwcTransformer", "QDQPropagationTransformer",
    "QDQSelectorActionTransformer", "QDQS8ToU8Transformer", "DivMulFusion", "NotWhereFusion", "CastElimination",
)  # fmt: skip
"""Optimisations of ONNX Runtime by the names that its sessions take; unknown ones are ignored by them."""


def optimiser_at_fault(
    backend: Backend,
    model: bytes,
    interface: GraphInterface,
    keeps_limits: Callable[[Session[Any]], bool],
) -> str | None:
    """Why a back end misses limits that the file itself keeps, in words; None where the file misses them as well.

    The file is run by ONNX Runtime without any optimisation. When that keeps the limits and the back end is ONNX
    Runtime, its optimisations are left out one at a time until the culprit is found.
    """

    def right_without(passes: tuple[str, ...] | None) -> bool:
        try:
            with OnnxRuntimeCpu(passes).open(model, interface, SessionOptions()) as session:
                return keeps_limits(session)
        except BackendError:
            return False

    if OnnxRuntimeCpu().unavailable_reason() is not None or not right_without(None):
        return None
    right = "the file itself is right: run without optimisation it keeps every limit"
    if backend.name != OnnxRuntimeCpu.name:
        return f"{right}; what {backend.name} {backend.version()} makes of it is not"
    culprit = next((name for name in PASSES if right_without((*WRONG_PASSES, name))), None)
    named = f"its optimisation {culprit}" if culprit else "one of its optimisations"
    return f"{right}; {named} in {backend.name} {backend.version()} changes the result"
