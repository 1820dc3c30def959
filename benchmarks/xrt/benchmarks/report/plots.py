"""Matplotlib without its global state: figures that belong to their caller, and their PNG files."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.figure import Figure


def grid_figure(
    rows: int, columns: int, size: tuple[float, float], *, share_y: bool = False
) -> tuple[Figure, np.ndarray]:
    """An empty figure of `size` (width, height) in inches, and its axes as an array of objects [rows, columns]."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharey=share_y)


def figure_png(figure: Figure, *, dpi: int = 130, **options: Any) -> bytes:
    """The figure as a PNG file; `options` are those of `Figure.savefig`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png", **options)
    return buffer.getvalue()
