"""Classifiers as ONNX graphs with logits, gradients and heatmaps; certified bundles of them.

    import onnx

    from xrt.export import explain, gradients

    model = onnx.load("chest.onnx")
    with_gradients = gradients(model, of="logits", wrt=["layer4"])  # a further output, grad.layer4
    with_heatmaps = explain(model, method="gradcam", layers=["layer4"])  # outputs logits and cams

    from pathlib import Path

    from xrt.export import ExportOptions, open_source, publish_source

    publication = publish_source(open_source("runs/pm"), Path("pm.xrt"), ExportOptions(precisions=("fp32", "fp16")))
    print(publication.bundle.manifest.certificates[0].verdict, publication.refusal)

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrt.export.compile import ExplainedModel, Request, compile_source
    from xrt.export.graph_functions import explain, gradients
    from xrt.export.publish import ExportOptions, publish_source
    from xrt.export.sources.base import Description, Source
    from xrt.export.sources.onnx_source import OnnxSource
    from xrt.export.sources.registry import open_source
    from xrt.export.sources.torch_source import TorchSource
    from xrt.runtime.certification.certify import Publication

_MODULES = {
    "xrt.export.compile": ("ExplainedModel", "Request", "compile_source"),
    "xrt.export.graph_functions": ("explain", "gradients"),
    "xrt.export.publish": ("ExportOptions", "publish_source"),
    "xrt.export.sources.base": ("Description", "Source"),
    "xrt.export.sources.onnx_source": ("OnnxSource",),
    "xrt.export.sources.registry": ("open_source",),
    "xrt.export.sources.torch_source": ("TorchSource",),
    "xrt.runtime.certification.certify": ("Publication",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Description",
    "ExplainedModel",
    "ExportOptions",
    "OnnxSource",
    "Publication",
    "Request",
    "Source",
    "TorchSource",
    "compile_source",
    "explain",
    "gradients",
    "open_source",
    "publish_source",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
