"""The rules, by kind of operator. Importing this package registers them."""

from xrt.export.autodiff.rules import (
    activation,
    arithmetic,
    convolution,
    gather_nd,
    indexing,
    normalisation,
    pooling,
    product,
    reduction,
    shape,
    transform,
)

__all__ = [
    "activation",
    "arithmetic",
    "convolution",
    "gather_nd",
    "indexing",
    "normalisation",
    "pooling",
    "product",
    "reduction",
    "shape",
    "transform",
]
