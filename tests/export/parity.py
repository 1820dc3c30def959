"""Comparing a graph with torch autograd at the same tensor, for models of any kind."""

from __future__ import annotations

import numpy as np
import torch
from conftest import redraw

from xrt.export.compile import DEFAULT_REQUEST, ExplainedModel, Request, compile_source
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
    """The parts of a manifest that the gate needs."""
    return Manifest.model_construct(task=source.task, classes=source.classes, graph=graph)


def interface_of(model: ExplainedModel, source: Source) -> GraphInterface:
    """The description of the graph that a session needs."""
    return GraphInterface(model.graph, source.preprocessing)


def run(model: ExplainedModel, source: Source, images: np.ndarray, batch_size: int = 16) -> ModelOutputs:
    """The outputs of ONNX Runtime."""
    with OnnxRuntimeCpu().open(model.data, interface_of(model, source), SessionOptions()) as session:
        return session.infer_all(images, batch_size=batch_size)


class VacuousError(AssertionError):
    """The reference's own maps are mostly zero, or the same for every image: such weights prove nothing."""


def compile_and_check(
    source: Source, request: Request = DEFAULT_REQUEST, *, images: np.ndarray | None = None
) -> ExplainedModel:
    """Compile a source, and require what the gate requires of fp32, at batch 1 and 3, on maps that prove something."""
    model = compile_source(source, request)
    images = phantom_inputs(3, 3, source.preprocessing).images if images is None else images
    expected = model.reference.outputs(images)
    with OnnxRuntimeCpu().open(model.data, interface_of(model, source), SessionOptions()) as session:
        for batch_size in (1, 3):
            figures = measure(
                expected, session.infer_all(images, batch_size=batch_size), manifest_of(source, model.graph)
            )
            assert judge(figures, LIMITS["fp32"], enough=False) == ("passed", ())
    if figures.maps_nonzero < 0.5 or not figures.reference_varies:
        raise VacuousError(f"{figures.maps_nonzero:.0%} of the reference's maps are not zero")
    return model


def randomise(module: torch.nn.Module, size: int = 64, channels: int = 1) -> torch.nn.Module:
    """The module with random weights that make a comparison meaningful."""
    redraw(module, phantom_inputs(6, 1, Preprocessing(height=size, width=size)).images, channels)
    return module.eval()
