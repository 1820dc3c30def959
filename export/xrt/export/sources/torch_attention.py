"""Scaled dot-product attention of any rank as ONNX operators: torch's exporter translates only four axes.

y = softmax(q kᵀ s + m) v with s = 1/√d (Vaswani et al. 2017, arXiv 1706.03762).
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import onnx.numpy_helper
import torch
from onnxscript import opset18

from xrt.runtime.errors import ModelError

op: Any = opset18
OPERATOR = torch.ops.aten.scaled_dot_product_attention.default


def translations(program: torch.export.ExportedProgram) -> dict[Any, Any]:
    """Translations that torch's exporter needs for this program: none, unless attention has other than four axes."""
    ranks = {node.args[0].meta["val"].ndim for node in program.graph.nodes if node.target is OPERATOR}
    return {OPERATOR: _attention} if ranks - {4} else {}


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    """The translation; `dropout_p` does nothing at inference."""
    if enable_gqa:
        raise ModelError("grouped-query attention with other than four axes: repeat its keys and values in the model")
    rank, depth = len(query.shape), query.shape[-1]
    order = [*range(rank - 2), rank - 1, rank - 2]
    factor = op.Constant(value_float=float(scale) if scale is not None else 1 / sqrt(depth))
    scores = op.MatMul(op.Mul(query, factor), op.Transpose(key, perm=order))
    if is_causal:
        causal_mask = torch.ones(query.shape[-2], key.shape[-2]).tril().log()
        scores = op.Add(scores, op.Constant(value=_tensor(causal_mask)))
    if attn_mask is not None:
        boolean = str(attn_mask.dtype).upper().endswith("BOOL")
        mask = op.Where(attn_mask, op.Constant(value_float=0.0), op.Constant(value_float=float("-inf")))
        scores = op.Add(scores, mask if boolean else attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _tensor(values: torch.Tensor) -> Any:
    return onnx.numpy_helper.from_array(values.numpy())
