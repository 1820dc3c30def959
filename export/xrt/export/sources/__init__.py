"""Where models come from: checkpoints of `xrt train`, factories, model collections, and ONNX files."""

from xrt.export.sources.base import Description, Source, SourceGraph
from xrt.export.sources.onnx_source import OnnxSource
from xrt.export.sources.registry import open_source, reopen_source, require_torch
from xrt.export.sources.torch_source import TorchSource

__all__ = [
    "Description",
    "OnnxSource",
    "Source",
    "SourceGraph",
    "TorchSource",
    "open_source",
    "reopen_source",
    "require_torch",
]
