"""The grid on which a body is summed up, and drawing on it.

The body frame is rendered upright on a square grid and turned, shifted and scaled into the image only at
the end, so that outlines stay functions of one coordinate (cheap) and lesions stay independent of the
positioning.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

FIELD = 46.0  # cm across the grid: enough for the largest field, turned and shifted
TOP = -9.5  # cm, y of the grid's upper edge
_OVERSAMPLING = 2  # drawn twice as fine and averaged, which is all the antialiasing that bones need


class Canvas:
    """A square grid of `n` × `n` points; `x` is [1, n] and `y` is [n, 1], both float32 in cm."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.step = FIELD / n
        centres = (np.arange(n, dtype=np.float32) + 0.5) * self.step
        self.x = (centres - FIELD / 2)[None, :]
        self.y = (centres + TOP)[:, None]

    def column(self, x: float) -> int:
        """The grid column at x cm, within the grid."""
        return int(np.clip((x + FIELD / 2) / self.step, 0, self.n - 1))

    def row(self, y: float) -> int:
        """The grid row at y cm, within the grid."""
        return int(np.clip((y - TOP) / self.step, 0, self.n - 1))

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """Rows and columns of the grid that cover a rectangle given in cm."""
        return slice(self.row(y0), self.row(y1) + 1), slice(self.column(x0), self.column(x1) + 1)

    def layer(self) -> Layer:
        """An empty layer to draw on."""
        return Layer(self)

    def noise(self, rng: np.random.Generator, grain: float) -> np.ndarray:
        """Smooth Gaussian noise, float32 [n, n], sd about 0.7, with detail of about `grain` cm.

        The random numbers do not depend on the size of the grid, so neither does the patient.
        """
        k = max(2, round(FIELD / grain))
        coarse = Image.fromarray(rng.standard_normal((k, k), dtype=np.float32))
        return np.asarray(coarse.resize((self.n, self.n), Image.Resampling.BICUBIC))


class Layer:
    """Drawing in 256 steps of one quantity; later strokes cover earlier ones, they do not add up."""

    def __init__(self, canvas: Canvas) -> None:
        self._scale = _OVERSAMPLING / canvas.step
        self._image = Image.new("L", (canvas.n * _OVERSAMPLING, canvas.n * _OVERSAMPLING))
        self._draw = ImageDraw.Draw(self._image)

    def _pixels(self, points: np.ndarray) -> list[float]:
        return ((points - (-FIELD / 2, TOP)) * self._scale - 0.5).ravel().tolist()

    def polygon(self, points: np.ndarray, value: float) -> None:
        """Fill a polygon, [k, 2] in cm, with a value in 0..1."""
        self._draw.polygon(self._pixels(points), fill=round(255 * value))

    def line(self, points: np.ndarray, width: float, value: float) -> None:
        """A polyline, [k, 2] in cm, `width` cm wide; under one pixel it gets fainter instead of thinner."""
        wide = width * self._scale
        self._draw.line(self._pixels(points), fill=round(255 * value * min(1.0, wide)), width=max(1, round(wide)))

    def lines(self, segments: np.ndarray, widths: np.ndarray, values: np.ndarray) -> None:
        """Polylines [m, k, 2] in cm, each with its width and value."""
        flat = ((segments - (-FIELD / 2, TOP)) * self._scale - 0.5).reshape(len(segments), -1).tolist()
        wide = np.asarray(widths) * self._scale
        fills = np.rint(255 * np.asarray(values) * np.minimum(1.0, wide)).astype(int).tolist()
        for points, fill, width in zip(flat, fills, np.maximum(1, np.rint(wide)).astype(int).tolist(), strict=True):
            self._draw.line(points, fill=fill, width=width)

    def ellipse(self, x: float, y: float, a: float, b: float, value: float) -> None:
        """A filled ellipse with half axes a and b, in cm."""
        x0, y0, x1, y1 = self._pixels(np.array([[x - a, y - b], [x + a, y + b]]))
        self._draw.ellipse((x0, y0, x1, y1), fill=round(255 * value))

    def array(self) -> np.ndarray:
        """The layer as float32 [n, n] in 0..1."""
        return np.asarray(self._image.reduce(_OVERSAMPLING), dtype=np.float32) * np.float32(1 / 255)


def soft(t: np.ndarray) -> np.ndarray:
    """Smooth step: 0 below 0, 1 above 1."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def bulge(t: np.ndarray) -> np.ndarray:
    """Chord of a unit sphere, √(1 − t) where t is the squared distance, 0 outside."""
    return np.sqrt(np.clip(1 - t, 0, None))
