"""Reverse-mode differentiation of ONNX graphs, in ordinary ONNX operators. The design note is README.md here."""

from xrt.export.autodiff.engine import backward
from xrt.export.autodiff.table import VJPS

__all__ = ["VJPS", "backward"]
