"""Groups of operators, by what they do to the numbers."""

from __future__ import annotations

MIXING = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}
"""Operators that mix channels into new ones."""
REARRANGING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that keep every number, perhaps at another position."""
VALUE_KEEPING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that keep every number in its order."""
RESHAPING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that change only the shape."""
