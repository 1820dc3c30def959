"""From an `nn.Module` to an ONNX graph, keeping the exported program for reference answers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import torch

from xrt.export.autodiff.emitter import OPSET
from xrt.runtime.errors import ModelError

MAX_IR_VERSION = 10


@dataclass(frozen=True)
class TracedModel:
    """A float model as ONNX: one input [n, C, H, W], one output, logits [n, classes]; dynamic batch.

    `program` is torch's exported program when there is one; its node names are the graph's value names.
    """

    model: ir.Model
    program: torch.export.ExportedProgram | None = None

    @property
    def image(self) -> ir.Value:
        """The float input."""
        return self.model.graph.inputs[0]

    @property
    def logits(self) -> ir.Value:
        """The output."""
        return self.model.graph.outputs[0]


def trace(module: torch.nn.Module, channels: int, height: int, width: int) -> TracedModel:
    """Export a module in evaluation mode with torch's dynamo exporter.

    Raises ModelError when torch cannot export it, when its output is not [n, classes], or when its weights are not
    finite.
    """
    bad = [
        name
        for name, tensor in module.state_dict().items()
        if tensor.is_floating_point() and not tensor.isfinite().all()
    ]
    if bad:
        raise ModelError(f"weights are not finite: {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}")
    example = torch.zeros(2, channels, height, width)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
                input_names=["pixels"],
                output_names=["logits"],
                external_data=False,
            )
    except Exception as error:  # the exporter raises its own family, with a page of advice
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(f"torch cannot export {type(module).__name__}: {first.strip()}") from error
    assert program is not None
    model = program.model
    if len(model.graph.outputs) != 1 or model.graph.outputs[0].shape is None or len(model.graph.outputs[0].shape) != 2:
        shapes = [str(o.shape) for o in model.graph.outputs]
        raise ModelError(f"{type(module).__name__} must give one output of logits [n, classes], it gives {shapes}")
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)
    return TracedModel(model, program.exported_program)


def serialise(model: ir.Model) -> bytes:
    """The model as one self-contained, checked ONNX file. Raises ModelError over 2 GiB or when the check fails."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    if size >= 2**31 - 2**20:
        raise ModelError(f"the weights take {size / 2**30:.1f} GiB; one ONNX file holds 2 GiB")
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the emitted graph is invalid: {str(error).splitlines()[0]}") from error
    return proto.SerializeToString()


@contextlib.contextmanager
def _quiet():
    """Torch's exporter reports its progress on stdout and warns about its own internals; neither helps a user."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
