"""From line integrals to grey values: scatter, quantum noise, film response, and what is printed on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xrt.runtime.phantoms.canvas import FIELD, TOP, Canvas
from xrt.runtime.phantoms.patient import Exposure

_BINS = 4096
_RANGE = 8.0  # log exposures of 0..8 are told apart; the densest body reaches about 4.5


@dataclass(frozen=True)
class Film:
    """What turns log attenuation into grey in one exposure. It is set from the healthy anatomy alone."""

    scatter: np.ndarray  # [n, n], exposure by scattered quanta
    reference: float  # exposure behind the lung, at which the noise is `noise`
    noise: float  # sd of log exposure in a 1 mm aperture at the reference
    middle: float  # log exposure that becomes grey 0.5
    slope: float

    def log(self, attenuation: np.ndarray, rows: slice = slice(None), cols: slice = slice(None)) -> np.ndarray:
        """Log exposure (negated, so that dense is high) behind a log attenuation, scatter included."""
        return -np.log(np.exp(-attenuation) + self.scatter[rows, cols])

    def deviation(self, log: np.ndarray) -> np.ndarray:
        """Standard deviation of the quantum noise in a 1 mm aperture: fewer quanta, more noise."""
        return self.noise * np.sqrt(self.reference * np.exp(log))

    def grey(self, log: np.ndarray) -> np.ndarray:
        """Logistic film response, 0..1."""
        return 1 / (1 + np.exp(-self.slope * (log - self.middle)))


def expose(attenuation: np.ndarray, air: np.ndarray, shot: Exposure) -> Film:
    """Choose scatter and response for a healthy log attenuation [n, n] whose lung path is `air` [n, n] cm."""
    n = len(attenuation)
    primary = np.exp(-attenuation)
    inside = np.where(attenuation > 0.3, primary, 0.0).astype(np.float32)
    coarse = Image.fromarray(inside).resize((20, 20), Image.Resampling.BOX)
    wide = np.asarray(coarse.resize((6, 6), Image.Resampling.BOX).resize((20, 20), Image.Resampling.BICUBIC))
    mixed = Image.fromarray((0.35 * np.asarray(coarse) + 0.65 * wide).astype(np.float32))
    scatter = np.asarray(mixed.resize((n, n), Image.Resampling.BICUBIC))
    scatter = np.maximum(scatter * np.float32(shot.scatter), np.float32(0.006))
    log = -np.log(primary[::6, ::6] + scatter[::6, ::6])
    lung = air[::6, ::6] > 9
    low, high = (
        float(np.percentile(log[lung], 30)),
        float(np.percentile(log[n // 18 : n // 8, n // 15 : n // 10], 75)),
    )
    ends = np.log(np.array([shot.dark / (1 - shot.dark), shot.bright / (1 - shot.bright)]))
    slope = float((ends[1] - ends[0]) / max(high - low, 0.5))
    return Film(scatter, float(np.exp(-low)), shot.noise, low - float(ends[0]) / slope, slope)


def develop(
    log: np.ndarray, film: Film, shot: Exposure, canvas: Canvas, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Project the log exposure [n, n] into the image, add noise and print: uint8 [size, size]."""
    scale = _BINS / _RANGE
    values = np.maximum(project(log, shot, canvas, size) * np.float32(scale), 0)  # scatter reaches past the skin
    bins = (np.arange(_BINS) + 0.5) / scale
    pixel = 10 * shot.field / size  # mm
    deviation = (film.deviation(bins) * scale / pixel).astype(np.float32)
    grey = np.rint(255 * film.grey(bins)).astype(np.uint8)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    noise *= np.take(deviation, values.astype(np.uint16), mode="clip")
    noise += values
    np.clip(noise, 0, _BINS - 1, out=noise)
    return _print(np.take(grey, noise.astype(np.uint16)), shot, size)


def project(values: np.ndarray, shot: Exposure, canvas: Canvas, size: int) -> np.ndarray:
    """Carry a quantity [n, n] of the body frame into the image, float32 [size, size]."""
    flat = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    where = _affine(shot, canvas, size)
    return np.asarray(flat.transform((size, size), Image.Transform.AFFINE, where, Image.Resampling.BILINEAR))


def _affine(shot: Exposure, canvas: Canvas, size: int) -> tuple[float, float, float, float, float, float]:
    """Pillow's coefficients that say where in the grid a pixel of the image comes from."""
    k = shot.field / size / canvas.step
    c, s = k * np.cos(shot.angle), k * np.sin(shot.angle)
    x = (shot.centre[0] + FIELD / 2) / canvas.step - 0.5 * size * (c - s)
    y = (shot.centre[1] - TOP) / canvas.step - 0.5 * size * (c + s)
    return (c, -s, x, s, c, y)


def to_image(points: np.ndarray, shot: Exposure, size: int) -> np.ndarray:
    """Pixel coordinates [k, 2] in the image of points [k, 2] given in cm of the body frame."""
    dx, dy = (points - shot.centre).T * (size / shot.field)
    c, s = np.cos(shot.angle), np.sin(shot.angle)
    return np.stack([c * dx + s * dy, c * dy - s * dx], axis=1) + 0.5 * size


def _print(image: np.ndarray, shot: Exposure, size: int) -> np.ndarray:
    left, top, right, bottom = (round(share * size) for share in shot.border)
    image[:, :left] = image[:top] = 3
    image[:, size - right :] = 3
    image[size - bottom :] = 3
    letter, x, y = shot.marker
    _stamp(image, _text(letter, max(9, round(0.05 * size))), round(x * size), round(y * size), 235)
    word = _text("SYNTHETIC", max(6, round(0.018 * size)))
    # On a plate of its own, so that it reads the same over black border and white abdomen.
    plate = np.ones((word.shape[0] + 2 * (size // 256), word.shape[1] + 4 * (size // 256)), np.float32)
    _stamp(image, plate, size // 2, size - word.shape[0] // 2 - max(1, size // 100), 30)
    _stamp(image, word, size // 2, size - word.shape[0] // 2 - max(1, size // 100), 200)
    return image


def _stamp(image: np.ndarray, mask: np.ndarray, x: int, y: int, value: int) -> None:
    """Lay a text mask (0..1) over the image around a point, cut off at the edges."""
    height, width = mask.shape
    x, y = min(max(x - width // 2, 0), len(image) - width), min(max(y - height // 2, 0), len(image) - height)
    below = image[y : y + height, x : x + width]
    below[:] = (below * (1 - mask) + value * mask).astype(np.uint8)


@lru_cache(maxsize=32)
def _text(word: str, height: int) -> np.ndarray:
    font = ImageFont.load_default(size=height)
    x0, y0, x1, y1 = (round(v) for v in font.getbbox(word))
    page = Image.new("L", (x1 - x0 + 2, y1 - y0 + 2))
    ImageDraw.Draw(page).text((1 - x0, 1 - y0), word, fill=255, font=font)
    return np.asarray(page, dtype=np.float32) / 255
