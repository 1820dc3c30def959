"""Holding a graph against torch autograd at the same tensor, for models of any kind."""

from __future__ import annotations

import numpy as np
import torch
from conftest import redraw

from xrt.export.compile import ExplainedModel, Request, compile_source
from xrt.export.sources import Source, TorchSource
from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.manifest import ClassSpec, GraphInterface, GraphSpec, Manifest, Preprocessing
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.gate import LIMITS, judge, measure
from xrt.runtime.outputs import ModelOutputs
from xrt.train.models import Normalisation

COLOUR = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
GREY = Normalisation(mean=(0.5,), std=(0.25,))


def source_of(module: torch.nn.Module, size: int = 64, channels: int = 1, classes=3, **fields) -> TorchSource:
    """A module as a multi-label source with the normalisation that `redraw` calibrates for."""
    if isinstance(classes, int):
        classes = tuple(ClassSpec(name=f"finding {i}") for i in range(classes))
    return TorchSource(**{
        "name": type(module).__name__,
        "module": module.eval(),
        "task": "multilabel",
        "classes": classes,
        "explained_class": None,
        "preprocessing": Preprocessing(height=size, width=size),
        "normalisation": COLOUR if channels == 3 else GREY,
        "origin": "test",
        "sha256": None,
    } | fields)  # fmt: skip


def manifest_of(source: Source, graph: GraphSpec) -> Manifest:
    """As much of a manifest as the gate needs."""
    return Manifest.model_construct(task=source.task, classes=source.classes, graph=graph)


def interface_of(model: ExplainedModel, source: Source) -> GraphInterface:
    """What a session is told of the graph."""
    return GraphInterface(model.graph, source.preprocessing)


def run(model: ExplainedModel, source: Source, images: np.ndarray, batch_size: int = 16) -> ModelOutputs:
    """What ONNX Runtime says."""
    with OnnxRuntimeCpu().open(model.data, interface_of(model, source), SessionOptions()) as session:
        return session.infer_all(images, batch_size=batch_size)


class VacuousError(AssertionError):
    """The reference's own maps are mostly zero, or the same for every image: with such weights nothing is proved."""


def hold(source: Source, request: Request = Request(), *, images: np.ndarray | None = None) -> ExplainedModel:  # noqa: B008
    """Compile a source, and require what the gate requires of fp32, at batch 1 and 3, on maps that prove something."""
    model = compile_source(source, request)
    images = phantom_inputs(3, 3, source.preprocessing).images if images is None else images
    expected = model.reference.outputs(images)
    with OnnxRuntimeCpu().open(model.data, interface_of(model, source), SessionOptions()) as session:
        for batch_size in (1, 3):
            figures = measure(
                expected, session.infer_all(images, batch_size=batch_size), manifest_of(source, model.graph)
            )
            assert judge(figures, LIMITS["fp32"], min_decisions=0) == ("passed", ())
    if figures.maps_nonzero < 0.5 or not figures.reference_varies:
        raise VacuousError(f"{figures.maps_nonzero:.0%} of the reference's maps are not zero")
    return model


def drawn(module: torch.nn.Module, size: int = 64, channels: int = 1) -> torch.nn.Module:
    """The module with weights worth comparing."""
    redraw(module, phantom_inputs(6, 1, Preprocessing(height=size, width=size)).images, channels)
    return module.eval()
