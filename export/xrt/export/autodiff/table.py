"""The table of rules: operator → vector-Jacobian product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from xrt.export.ir.emitter import Emitter, Tensor
from xrt.export.ir.shapes import Batch, Shape, shape_of
from xrt.runtime.errors import ModelError


@dataclass(frozen=True)
class Call:
    """One node in the backward pass.

    `outputs[i]` and `inputs[i]` are forward tensors, `cotangents[i]` the cotangent of output i (None where there
    is none), `needed[i]` whether the cotangent of input i is needed.
    """

    node: ir.Node
    emit: Emitter
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    cotangents: tuple[Tensor | None, ...]
    needed: tuple[bool, ...]

    @property
    def g(self) -> Tensor:
        """The cotangent of the first output. Raises ModelError when there is none."""
        cotangent = self.cotangents[0]
        if cotangent is None:
            raise ModelError(f"node {self.node.name!r}: the logits do not depend on its first output")
        return cotangent

    def x(self, index: int = 0) -> Tensor:
        """A forward input. Raises ModelError when the node lacks it."""
        tensor = self.inputs[index] if index < len(self.inputs) else None
        if tensor is None:
            raise ModelError(f"node {self.node.name!r}: {self.node.op_type} lacks its input {index}")
        return tensor

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of a node attribute, or the operator's default."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def input_shape(self, index: int = 0) -> Shape:
        """The shape of a forward input, axes as in the forward graph."""
        value = self.node.inputs[index]
        return self.x(index).shape if value is None else shape_of(value)

    def integers(self, name: str, index: int) -> list[int] | None:
        """A list that is an attribute in older operator sets and an input in newer ones; None where it is absent.

        Raises ModelError when it is computed at run time.
        """
        numbers = self.attribute(name)
        if numbers is None and index < len(self.inputs) and self.inputs[index] is not None:
            array = self.x(index).array
            if array is None:
                raise ModelError(
                    f"node {self.node.name!r}: the {name} of {self.node.op_type} are computed at run time: export with "
                    "static sizes"
                )
            numbers = array.reshape(-1).tolist()
        return None if numbers is None else [int(value) for value in numbers]

    def spatial_sizes(self, index: int = 0) -> list[int]:
        """The sizes of a forward input after batch and channels. Raises ModelError when one is dynamic."""
        sizes = self.input_shape(index)[2:]
        if any(isinstance(d, Batch) for d in sizes):
            raise ModelError(f"node {self.node.name!r} has dynamic spatial sizes: export with fixed ones")
        return [d for d in sizes if isinstance(d, int)]


Rule = Callable[[Call], Sequence[Tensor | None]]

VJPS: dict[str, Rule] = {}


def vjp(*operators: str) -> Callable[[Rule], Rule]:
    """Register a rule for these operators. It returns one cotangent, or None, for each input that can carry one."""

    def register(rule: Rule) -> Rule:
        for operator in operators:
            if operator in VJPS:
                raise ValueError(f"{operator} has a rule already")
            VJPS[operator] = rule
        return rule

    return register
