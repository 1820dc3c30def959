"""Numbers that are known at export time: initialisers and Constant nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape


def array_of(value: ir.Value | None) -> np.ndarray | None:
    """The numbers of an initialiser or Constant node; None for anything that is computed, and for text."""
    if value is None:
        return None
    try:
        tensor = ir.convenience.get_const_tensor(value)
    except ValueError:  # a sparse Constant
        return None
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def initializer(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    """A new initialiser of the graph; a name that is in use gets a number."""
    array = np.asarray(array, order="C")
    unique_name, count = name, 1
    while unique_name in graph.initializers:
        count += 1
        unique_name = f"{name}_{count}"
    return Tape(graph).initializer(ir.tensor(array, name=unique_name), unique_name)
