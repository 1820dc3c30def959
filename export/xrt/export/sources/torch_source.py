"""From an `nn.Module` to an ONNX graph, keeping the exported program for reference answers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import onnx
import onnx_ir as ir
import torch

from xrt.export.autodiff.emitter import OPSET
from xrt.export.graphs.attention import translations
from xrt.export.graphs.heads import Activation, expose_logits
from xrt.export.graphs.limits import MAX_IR_VERSION, check_weights
from xrt.export.graphs.settling import settle
from xrt.export.graphs.simplifying import simplify
from xrt.export.quiet import quiet
from xrt.runtime.errors import ModelError


@dataclass(frozen=True)
class TracedModel:
    """A settled float model as ONNX: one input [n, C, H, W], one output `logits` [n, classes]; dynamic batch.

    `program` is torch's exported program when there is one; its node names are the graph's value names.
    `logits_name` is what the logits are called there, or in the ONNX file that the model comes from.
    """

    model: ir.Model
    program: torch.export.ExportedProgram | None = None
    logits_name: str = "logits"
    activation: Activation | None = None


def trace(module: torch.nn.Module, channels: int, height: int, width: int) -> TracedModel:
    """Export a module in evaluation mode with torch's dynamo exporter; a final softmax or sigmoid is peeled off.

    Raises ModelError when torch cannot export it, when it takes or gives more than one tensor, or when its weights
    are not finite.
    """
    bad = [
        name
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, torch.Tensor)
        and tensor.is_floating_point()
        and not tensor.isfinite().all()
        and not name.endswith("op_threshs")
    ]
    if bad:
        raise ModelError(f"weights are not finite: {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}")
    _check_signature(module)
    _check_size(module)
    example = torch.zeros(2, channels, height, width)
    try:
        with quiet(), torch.no_grad():
            captured = _captured(module.eval(), example)
            program = torch.onnx.export(
                captured,
                dynamo=True,
                opset_version=OPSET,
                input_names=["pixels"],
                external_data=False,
                optimize=False,
                custom_translation_table=translations(captured),
            )
    except Exception as error:  # the exporter raises its own family, with a page of advice
        raise ModelError(f"torch cannot export {type(module).__name__}: {_reason(error)}") from error
    assert program is not None
    model = program.model
    if len(model.graph.outputs) != 1:
        names = ", ".join(str(o.name) for o in model.graph.outputs)
        raise ModelError(
            f"{type(module).__name__} gives {len(model.graph.outputs)} tensors ({names}): wrap it in a module that "
            "returns its logits alone"
        )
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)
    simplify(model)
    name, activation = expose_logits(model, settle(model))
    return TracedModel(model, program.exported_program, name, activation)


def _captured(module: torch.nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    """The module as a program with a dynamic batch.

    Tracing takes Python's `len(x)` for a constant, and the exporter would then fix the batch without a word; torch's
    bytecode analysis, tried second, understands it.
    """
    shapes = ({0: torch.export.Dim("n", min=1)},)
    try:
        return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)
    except Exception as first:
        try:
            return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=True)
        except Exception:
            raise first from None


def _reason(error: BaseException) -> str:
    """The first line that says something, of the error beneath the exporter's own."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _check_signature(module: torch.nn.Module) -> None:
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    )  # fmt: skip
    needed = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    if not any(p.kind in (*kinds, inspect.Parameter.VAR_POSITIONAL) for p in parameters):
        raise ModelError(f"{type(module).__name__} takes no image: its forward must have one argument")
    if len(needed) > 1:
        raise ModelError(
            f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}): a classifier takes one image; "
            "wrap it in a module that fixes the others"
        )


def _check_size(module: torch.nn.Module) -> None:
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values() if isinstance(t, torch.Tensor))
    check_weights(size, type(module).__name__)


def serialise(model: ir.Model) -> bytes:
    """The model as one self-contained, checked ONNX file. Raises ModelError over 2 GiB or when the check fails."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    check_weights(size, str(model.graph.name or "the model"))
    proto = ir.to_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the emitted graph is invalid: {str(error).splitlines()[0]}") from error
    return proto.SerializeToString()
