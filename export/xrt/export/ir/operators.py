"""Kinds of operators."""

from __future__ import annotations

MIXING = {"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul"}
"""Operators that make new channels."""
REARRANGING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that keep every number, though perhaps elsewhere."""
VALUE_KEEPING = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}
"""Operators that keep every number in its order."""
RESHAPING = {"Flatten", "Reshape", "Squeeze", "Unsqueeze"}
"""Those of them that change the shape alone."""
