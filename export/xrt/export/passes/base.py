"""What every pass has in common."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, InvariantError, PassResult

from xrt.runtime.errors import XrtError

log = logging.getLogger("xrt.export.passes")


class GraphPass(InPlacePass):
    """A pass that changes a graph in place.

    Subclasses have `requires(model)`, `call(model)` and `ensures(model)` of onnx_ir. Each of the three raises
    ModelError for what the user can correct.
    """

    @classmethod
    def conditions(cls) -> str:
        """What the pass requires and ensures, in its own words; empty for a pass without conditions."""
        parts = []
        for name in ("requires", "ensures"):
            method = getattr(cls, name)
            if method is not getattr(InPlacePass, name) and method.__doc__:
                sentence = method.__doc__.strip().splitlines()[0].partition(". Raises")[0].rstrip(".")
                parts.append(f"{name}: {sentence}")
        return "; ".join(parts)

    def __call__(self, model_or_result: ir.Model | PassResult, /) -> PassResult:
        """Check, change, check. Raises ModelError, or onnx_ir's InvariantError when the pass itself has a fault."""
        try:
            return super().__call__(model_or_result)
        except InvariantError as error:
            if isinstance(error.__cause__, XrtError):
                raise error.__cause__ from None
            raise


def run_passes(model: ir.Model, passes: Sequence[GraphPass]) -> None:
    """Run passes one after another, in place; the log has the nodes before and after each, and its conditions."""
    for graph_pass in passes:
        before = model.graph.num_nodes()
        graph_pass(model)
        name, after, conditions = type(graph_pass).__name__, model.graph.num_nodes(), graph_pass.conditions()
        log.info("%-18s %5d -> %5d nodes%s", name, before, after, f"   {conditions}" if conditions else "")
