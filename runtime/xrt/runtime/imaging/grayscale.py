"""From a DICOM image's stored values to eight grey bits: modality, window, polarity, shutter (PS3.4 Annex N).

The arithmetic is that of PS3.3 C.11.1 (modality), C.11.2 (window) and C.7.6.11 (shutter). Where the header's own
window leaves nothing of the image, the values present are used, with a note; nothing without contrast is returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Num, UInt8
from PIL import Image, ImageDraw

from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import UnreadableImage
from xrt.runtime.imaging.dicom_pixels import StoredValues
from xrt.runtime.imaging.lookup_table import read_lookup_table
from xrt.runtime.imaging.radiograph import scale_to_uint8, span

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SHOWN = 4
"""Grey levels between the darkest and the brightest half percent under which a window shows nothing of an image."""
LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"


@dataclass(frozen=True)
class Window:
    """A window as the header states it; `function` is LINEAR, LINEAR_EXACT or SIGMOID."""

    centre: float
    width: float
    function: str

    @property
    def is_valid(self) -> bool:
        """LINEAR needs a width of 1 or more, the others one over 0 (C.11.2.1.2.1 and C.11.2.1.3)."""
        return self.width >= 1 if self.function == LINEAR else self.width > 0

    def __call__(self, values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """The values in 0..255."""
        if self.function == SIGMOID:
            with np.errstate(over="ignore"):
                return 255 / (1 + np.exp(-4 * (values - self.centre) / self.width))
        if self.function == LINEAR_EXACT:
            return (((values - self.centre) / self.width + 0.5) * 255).clip(0, 255)
        if self.width == 1:
            return np.where(values <= self.centre - 0.5, 0.0, 255.0)
        return (((values - (self.centre - 0.5)) / (self.width - 1) + 0.5) * 255).clip(0, 255)


def render_grey(
    dataset: Dataset, stored: StoredValues, without_window: WithoutWindow
) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """The image as grey uint8, air dark, and notes on how it came about.

    `without_window` as in `Preprocessing`. Raises UnreadableImage for numbers of the header that are not finite, and
    for what has no contrast.
    """
    notes = list[str]()
    raw = stored.values
    padding, shutter = _padding(dataset, raw), _outside_shutter(dataset, raw.shape)
    left_out = padding if shutter is None else shutter if padding is None else padding | shutter
    if left_out is not None and left_out.all():
        raise UnreadableImage("the whole image is padding or lies outside its shutter")
    modality = _Modality.of(dataset, stored)
    values = modality(raw)
    shown = values if left_out is None else values[~left_out]
    if not np.isfinite(shown).all():
        raise UnreadableImage("pixel values are not finite")
    if float(shown.min()) == float(shown.max()):
        raise UnreadableImage("the image has one grey level alone")
    pixels = _windowed(dataset, values, modality, notes)
    if pixels is not None and not _has_contrast(pixels if left_out is None else pixels[~left_out]):
        notes.append("the window of the header shows nothing of the image: the values present are used")
        pixels, without_window = None, "minmax"
    if pixels is None:
        if stored.bits <= 8 or without_window == "bits":
            low, high = modality.possible
        else:
            low, high, remarks = span(shown)
            notes += remarks
        pixels = scale_to_uint8(values, low, high)
    if _is_inverse(dataset, notes):
        pixels = 255 - pixels
    if shutter is not None:
        notes.append("the shutter of the header is applied")
    return (pixels if left_out is None else np.where(left_out, np.uint8(0), pixels)), tuple(notes)


@dataclass(frozen=True)
class _Modality:
    """Modality LUT, or rescale; `possible` are the least and greatest value that the stored bits can give."""

    table: Any
    slope: float
    intercept: float
    possible: tuple[float, float]

    @classmethod
    def of(cls, dataset: Dataset, stored: StoredValues) -> _Modality:
        low, high = (
            (-(2 ** (stored.bits - 1)), 2 ** (stored.bits - 1) - 1) if stored.signed else (0, 2**stored.bits - 1)
        )
        if sequence := dataset.get("ModalityLUTSequence"):
            table = read_lookup_table(sequence[0], signed=stored.signed)
            return cls(table, 1, 0, (float(table.entries.min()), float(table.entries.max())))
        slope = _number(dataset, "RescaleSlope", 1.0)
        intercept = _number(dataset, "RescaleIntercept", 0.0)
        if slope == 0:
            raise UnreadableImage("RescaleSlope is 0")
        ends = sorted((low * slope + intercept, high * slope + intercept))
        return cls(None, slope, intercept, (ends[0], ends[1]))

    def __call__(self, raw: Num[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        if self.table is not None:
            return self.table(raw)
        values = raw.astype(np.float64)
        if self.slope != 1 or self.intercept:
            values = values * self.slope + self.intercept
        return values


def _windowed(
    dataset: Dataset, values: Float[np.ndarray, "h w"], modality: _Modality, notes: list[str]
) -> UInt8[np.ndarray, "h w"] | None:
    """The values through the VOI LUT, else through the first window; None without either."""
    if sequence := dataset.get("VOILUTSequence"):
        table = read_lookup_table(sequence[0], signed=modality.possible[0] < 0)
        return scale_to_uint8(table(values), *table.range)
    window = _window(dataset)
    if window is not None and not window.is_valid:
        notes.append("the window of the header has no valid width: the values present are used")
        return None
    return None if window is None else np.rint(window(values)).astype(np.uint8)


def _window(dataset: Dataset) -> Window | None:
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return None
    function = str(dataset.get("VOILUTFunction") or LINEAR).upper()
    centre, width = _number(dataset, "WindowCenter", 0.0), _number(dataset, "WindowWidth", 0.0)
    return Window(centre, width, function if function in (LINEAR_EXACT, SIGMOID) else LINEAR)


def _number(dataset: Dataset, name: str, default: float) -> float:
    """A number of the header, of several the first. Raises UnreadableImage unless it is finite."""
    value = dataset.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = value[0] if len(value) else None
    if value is None or value == "":
        return default
    number = float(value)
    # The largest that a DS value reasonably holds: beyond it, float arithmetic leaves nothing of the pixels.
    if not math.isfinite(number) or abs(number) > 1e9:
        raise UnreadableImage(f"{name} is no usable number")
    return number


def _has_contrast(pixels: UInt8[np.ndarray, " pixels"] | UInt8[np.ndarray, "h w"]) -> bool:
    low, high = np.percentile(pixels, (0.5, 99.5))
    return bool(high - low >= _SHOWN)


def _is_inverse(dataset: Dataset, notes: list[str]) -> bool:
    """Whether the greatest value is dark: MONOCHROME1. A presentation LUT that says otherwise is only noted."""
    photometric = str(dataset.get("PhotometricInterpretation") or "")
    shape = str(dataset.get("PresentationLUTShape") or "")
    is_inverse = photometric == "MONOCHROME1"
    if shape and is_inverse != (shape == "INVERSE"):
        notes.append("PresentationLUTShape contradicts PhotometricInterpretation, which is followed")
    return is_inverse


def _padding(dataset: Dataset, raw: np.ndarray) -> Bool[np.ndarray, "h w"] | None:
    """Where the stored values are padding, outside the irradiated field; None when the header names none."""
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    limit = limit if isinstance(limit, int) else value
    return (raw >= min(value, limit)) & (raw <= max(value, limit))


def _outside_shutter(dataset: Dataset, shape: tuple[int, ...]) -> Bool[np.ndarray, "h w"] | None:
    """What lies outside the display shutter (PS3.3 C.7.6.11); None where the header has none."""
    shapes = dataset.get("ShutterShape") or ()
    inside = np.ones(shape, dtype=bool)
    for kind in (shapes,) if isinstance(shapes, str) else shapes:
        drawn = Image.new("1", (shape[1], shape[0]))
        draw = ImageDraw.Draw(drawn)
        if kind == "RECTANGULAR":
            left, top = (int(dataset.get(f"Shutter{edge}Edge") or 1) for edge in ("LeftVertical", "UpperHorizontal"))
            right = int(dataset.get("ShutterRightVerticalEdge") or shape[1])
            bottom = int(dataset.get("ShutterLowerHorizontalEdge") or shape[0])
            # Rows and columns are counted from 1. An edge is outside, unless it is the image's own border.
            x0, y0 = (0 if edge <= 1 else edge for edge in (left, top))
            x1 = right - 1 if right >= shape[1] else right - 2
            y1 = bottom - 1 if bottom >= shape[0] else bottom - 2
            if x1 >= x0 and y1 >= y0:
                draw.rectangle((x0, y0, x1, y1), fill=1)
        elif kind == "CIRCULAR":
            row, column = (int(v) for v in dataset.CenterOfCircularShutter)
            radius = int(dataset.RadiusOfCircularShutter)
            box = (column - 1 - radius, row - 1 - radius, column - 1 + radius, row - 1 + radius)
            draw.ellipse(box, fill=1)
        elif kind == "POLYGONAL":
            numbers = [int(v) for v in dataset.VerticesOfThePolygonalShutter]
            points = [(column - 1, row - 1) for row, column in zip(numbers[::2], numbers[1::2], strict=True)]
            draw.polygon(points, fill=1)
        else:
            continue
        inside &= np.asarray(drawn)
    return None if inside.all() else ~inside
