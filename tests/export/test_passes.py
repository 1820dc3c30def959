"""The list of passes: what each requires and ensures, that both are checked, and that they are printed."""

from __future__ import annotations

import logging

import onnx_ir as ir
import pytest
from onnx_ir.passes import PassResult, PostconditionError

from xrt.export.compile import compile_source
from xrt.export.passes.base import GraphPass, run_passes
from xrt.runtime.errors import ModelError


class Doubtful(GraphPass):
    """Requires what `requirement` raises, ensures what `promise` raises."""

    def __init__(self, requirement: Exception | None = None, promise: Exception | None = None) -> None:
        self._requirement, self._promise = requirement, promise

    def requires(self, model: ir.Model) -> None:
        """A model without doubts. Raises ModelError."""
        if self._requirement is not None:
            raise self._requirement

    def call(self, model: ir.Model) -> PassResult:
        return PassResult(model, False)

    def ensures(self, model: ir.Model) -> None:
        """Certainty."""
        if self._promise is not None:
            raise self._promise


@pytest.fixture
def model() -> ir.Model:
    return ir.Model(ir.Graph([], [], nodes=[], opset_imports={"": 18}), ir_version=10)


def test_what_a_user_can_correct_is_raised_as_it_is(model):
    with pytest.raises(ModelError, match="no image"):
        Doubtful(requirement=ModelError("no image"))(model)


def test_a_broken_promise_is_an_error_of_the_pass(model):
    with pytest.raises(PostconditionError):
        Doubtful(promise=ValueError("it is not so"))(model)


def test_passes_are_printed_with_conditions_and_nodes(model, caplog):
    with caplog.at_level(logging.INFO, logger="xrt.export"):
        run_passes(model, [Doubtful()])
    (line,) = caplog.messages
    expected = "Doubtful 0 -> 0 nodes requires: A model without doubts; ensures: Certainty"
    assert " ".join(line.split()) == expected


def test_the_order_of_an_export(compact_source, caplog):
    with caplog.at_level(logging.INFO, logger="xrt.export"):
        compile_source(compact_source)
    assert [line.split()[0] for line in caplog.messages] == [
        "RequireEvaluationMode", "RequireFloat32", "RequireKnownOperators", "Simplify", "ResolveShapes", "PoolWhole",
        "ExposeLogits", "Uint8Input", "FuseBatchNorms",
        "heatmaps", "AttachAgain", "SeparateSharedWeights",
    ]  # fmt: skip
