"""Where models come from: checkpoints of `xrt train`, factories, model collections, and ONNX files."""

from xrt.export.sources.opening import open_source, reopen_source
from xrt.export.sources.source import Description, OnnxFile, Source

__all__ = ["Description", "OnnxFile", "Source", "open_source", "reopen_source"]
