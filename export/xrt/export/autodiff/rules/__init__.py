"""The rules, by kind of operator. Importing this package fills the table."""

from xrt.export.autodiff.rules import elementwise, linear, normalisation, pooling, reduction, shape

__all__ = ["elementwise", "linear", "normalisation", "pooling", "reduction", "shape"]
