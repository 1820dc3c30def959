"""Rectangles, and where the graph's input lies in the stored image. Pixels, x before y."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle: left, top, width, height. In pixels of the stored image unless a function says otherwise."""

    x: float
    y: float
    width: float
    height: float

    def contains(self, x: float, y: float) -> bool:
        """Whether the point (x, y) lies inside or on the border."""
        return self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.height


@dataclass(frozen=True)
class Placement:
    """Where the graph's input lies in the stored image: stored = offset + scale × input, in pixels, x before y.

    With padding, parts of the input lie outside the stored image.
    """

    offset: tuple[float, float]
    scale: tuple[float, float]

    def to_stored(self, x: float, y: float) -> tuple[float, float]:
        """The stored-image coordinates of input coordinates (x, y)."""
        return self.offset[0] + self.scale[0] * x, self.offset[1] + self.scale[1] * y

    def to_input(self, x: float, y: float) -> tuple[float, float]:
        """The input coordinates of stored-image coordinates (x, y)."""
        return (x - self.offset[0]) / self.scale[0], (y - self.offset[1]) / self.scale[1]
