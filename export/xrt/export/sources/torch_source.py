"""A PyTorch module as a source: its graph by torch's dynamo exporter, its reference by autograd."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.export.ir.limits import MAX_IR_VERSION, OPSET, check_weights
from xrt.export.passes.base import run_passes
from xrt.export.passes.expose_logits import ExposeLogits
from xrt.export.passes.order import torch_passes
from xrt.export.references.reference import Reference
from xrt.export.references.torch_reference import TorchReference
from xrt.export.silence import silence
from xrt.export.sources.base import Source, SourceGraph
from xrt.export.sources.own_pipeline import ask
from xrt.export.sources.torch_attention import translations
from xrt.export.sources.torch_detach import mark_detached
from xrt.export.sources.torch_program import capture, innermost_reason
from xrt.export.targets.target import Target
from xrt.runtime.bundle.manifest import CamSpec
from xrt.runtime.certification.original import Original
from xrt.runtime.errors import ModelError
from xrt.train.models import Normalisation


@dataclass(frozen=True, kw_only=True)
class TorchSource(Source):
    """A classifier in PyTorch. `preprocess` is the function that makes its inputs, where its module names one."""

    module: torch.nn.Module
    preprocess: Callable[[Any], Any] | None = None

    def original(self) -> Original | None:
        """What `preprocess` makes of phantoms. Raises ModelError when it fails."""
        return None if self.preprocess is None else ask(self.preprocess, "preprocess")

    def graph(self) -> TorchGraph:
        """The module's graph. Raises ModelError as `trace` does."""
        return trace(self.module, self.normalisation, self.preprocessing.height, self.preprocessing.width)


@dataclass(frozen=True)
class TorchGraph(SourceGraph):
    """The graph of a module, and torch's exported program, whose node names are the graph's value names."""

    module: torch.nn.Module
    program: torch.export.ExportedProgram
    normalisation: Normalisation

    @property
    def tensors(self) -> frozenset[str]:
        """Those of the program: an operator that becomes several in ONNX has further values inside."""
        return frozenset(node.name for node in self.program.graph.nodes)

    def reference(self, targets: Sequence[Target], cams: Sequence[CamSpec], explained: ExplainedLogits) -> Reference:
        """PyTorch's autograd."""
        layouts = {str(target.value.name): target.layout for target in targets}
        return TorchReference(
            self.module,
            self.program,
            self.logits_name if self.activation else None,
            cams,
            [layouts[cam.tensor] for cam in cams],
            explained,
            self.normalisation,
        )


def trace(module: torch.nn.Module, normalisation: Normalisation, height: int, width: int) -> TorchGraph:
    """Export a module in evaluation mode with torch's dynamo exporter; a final softmax or sigmoid is removed.

    Raises ModelError when torch cannot export it, when it takes or gives more than one tensor, or when its weights
    are not finite.
    """
    _check_weights(module)
    _check_signature(module)
    example = torch.zeros(2, len(normalisation.mean), height, width)
    try:
        with silence(), torch.no_grad():
            program = capture(module.eval(), example)
            onnx_program = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                input_names=["pixels"],
                external_data=False,
                optimize=False,
                custom_translation_table=translations(program),
            )
            _read_weights(onnx_program)
    except ModelError:
        raise
    except Exception as error:  # the exporter has its own family of errors, with long texts
        raise ModelError(f"torch cannot export {type(module).__name__}: {innermost_reason(error)}") from error
    if onnx_program is None or onnx_program.exported_program is None:
        raise ModelError(f"torch's exporter gives no program for {type(module).__name__}")
    model = onnx_program.model
    mark_detached(model.graph, onnx_program.exported_program)
    if len(model.graph.outputs) != 1:
        names = ", ".join(str(o.name) for o in model.graph.outputs)
        raise ModelError(
            f"{type(module).__name__} gives {len(model.graph.outputs)} tensors ({names}): wrap it in a module that "
            "returns its logits alone"
        )
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)
    logits = ExposeLogits()
    run_passes(model, torch_passes(logits))
    return TorchGraph(model, logits.name, logits.activation, module, onnx_program.exported_program, normalisation)


def _read_weights(program: torch.onnx.ONNXProgram | None) -> None:
    """Read every weight of a graph once: what has no numbers fails here, where the exporter's errors are caught."""
    for value in program.model.graph.initializers.values() if program is not None else ():
        if value.const_value is not None:
            value.const_value.numpy()


def _check_weights(module: torch.nn.Module) -> None:
    """Raise ModelError when weights are not finite, or too large for a file."""
    tensors = {name: t for name, t in module.state_dict().items() if isinstance(t, torch.Tensor)}
    # An infinity may be meant: the mask of causal attention, the bounds of a clamp. What it does is seen in the output.
    bad = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.isnan().any() and not name.endswith("op_threshs")
    ]
    if bad:
        raise ModelError(f"weights are not finite: {', '.join(bad[:3])}{' …' if len(bad) > 3 else ''}")
    check_weights(sum(t.numel() * t.element_size() for t in tensors.values()), type(module).__name__)


def _check_signature(module: torch.nn.Module) -> None:
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    )  # fmt: skip
    required = [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
    if not any(p.kind in (*kinds, inspect.Parameter.VAR_POSITIONAL) for p in parameters):
        raise ModelError(f"{type(module).__name__} takes no image: its forward must have one argument")
    if len(required) > 1:
        raise ModelError(
            f"{type(module).__name__} takes {len(required)} inputs ({', '.join(required)}): a classifier takes one "
            "image; wrap it in a module that fixes the others"
        )
