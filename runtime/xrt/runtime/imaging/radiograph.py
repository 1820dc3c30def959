"""What decoding yields, and its limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num, UInt8

from xrt.runtime._io import first_line
from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import ImageError, UnreadableImage
from xrt.runtime.imaging.orientation import UPRIGHT, Orientation


@dataclass(frozen=True)
class DecodeLimits:
    """Limits that stop decompression bombs early: file size, pixels, and for a process time and memory."""

    file_bytes: int = 512 * 2**20
    pixels: int = 120_000_000
    seconds: float = 60.0
    memory_bytes: int = 6 * 2**30


@dataclass(frozen=True)
class DecodeOptions:
    """How files are decoded.

    `without_window` as in `Preprocessing`; `skip_body_part_check` accepts DICOM files whose header says that they are
    no frontal chest radiograph.
    """

    without_window: WithoutWindow = "minmax"
    skip_body_part_check: bool = False
    limits: DecodeLimits = DecodeLimits()


log = logging.getLogger(__name__)
DEFAULT_DECODING = DecodeOptions()


@dataclass(frozen=True)
class Radiograph:
    """One decoded image. Air is dark and bone is bright, whatever was stored.

    `pixels` is uint8 [H, W] as it is stored; `upright` is what is looked at and scored, turned as `orientation` says.
    `notes` are remarks that a reader of the result must see. The rest comes from a DICOM header and is empty for other
    formats; no patient identifier is kept (`patient_digest`, four digits, tells patients of one study UID apart), and
    `view` is PA, AP or empty.
    """

    pixels: UInt8[np.ndarray, "h w"]
    notes: tuple[str, ...] = ()
    study_uid: str = ""
    sop_instance_uid: str = ""
    patient_digest: str = ""
    view: str = ""
    orientation: Orientation = UPRIGHT

    @property
    def upright(self) -> UInt8[np.ndarray, "upright_h upright_w"]:
        """The image as it is looked at: head up, the patient's left at its right, as far as the file says."""
        return self.pixels if self.orientation.is_upright else self.orientation.upright(self.pixels)


# How far colour channels may differ and still be a grey image: JPEG's chroma rounding moves them by a few levels.
_GREY_TOLERANCE = 12
COLOUR = "colour image folded to grey"
_OUTLIERS = 50
"""Free: real radiographs have a range of 1 to 3 times their middle 99.8 %, with a burnt-in marker up to 10."""
_SAMPLE = 1 << 14


def to_uint8(
    values: Num[np.ndarray, "h w"],
    without_window: WithoutWindow,
    possible: tuple[float, float],
) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """Grey values that came with no window as uint8, and what is to be noted; `possible` is what their storage allows.

    They become `minmax` (the values present span 0..255) or `bits` (the possible ones do).
    """
    if without_window == "bits":
        return scale_to_uint8(values, *possible), ()
    low, high, notes = span(values)
    return scale_to_uint8(values, low, high), notes


def span(values: Num[np.ndarray, ...]) -> tuple[float, float, tuple[str, ...]]:
    """The least and greatest value present, but for outliers, and a note where there are any.

    Outliers are values beyond the middle 99.8 % of the pixels by many times its width: a single one would leave one
    grey level for everything else.
    """
    low, high = float(values.min()), float(values.max())
    few = values.reshape(-1)[:: max(1, values.size // _SAMPLE)]
    least, most = np.percentile(few, (0.1, 99.9))
    if high - low <= _OUTLIERS / 2 * (most - least):
        return low, high, ()  # far from it, by a part of the pixels: all of them take much longer
    least, most = (float(v) for v in np.percentile(values, (0.1, 99.9)))
    if most > least and high - low > _OUTLIERS * (most - least):
        return least, most, ("outlying values were clipped",)
    return low, high, ()


def to_grayscale(colour: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """One channel of a grey image in colour channels; true colour becomes its luminance (ITU-R BT.601), with a note."""
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    if np.count_nonzero(spread > _GREY_TOLERANCE) * 100 <= spread.size:
        return np.ascontiguousarray(colour[..., 1]), ()
    luminance = colour.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(luminance).astype(np.uint8), (COLOUR,)


def scale_to_uint8(values: Num[np.ndarray, "h w"], low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """Map [low, high] onto 0..255, rounded and clipped. A range of zero width gives zeros."""
    factor = 255.0 / (high - low) if high > low else 0.0
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(factor)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)


def require_pixels(width: int, height: int, limits: DecodeLimits) -> None:
    """Raise UnreadableImage for an image of more pixels than the limit, before it is decoded."""
    if width * height > limits.pixels:
        raise UnreadableImage(f"{width} × {height} pixels, the limit is {limits.pixels:,} in all")


@contextmanager
def decoder_errors(what: str) -> Iterator[None]:
    """Turns any error of a parser or codec in a damaged file into UnreadableImage: `WHAT: …`."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        raise UnreadableImage("decoding needs more memory than the limit allows") from None
    except Exception as error:
        # Its text may hold what the header holds, a name: the kind of error is all that is told.
        log.debug("%s", first_line(error))
        raise UnreadableImage(f"{what} ({type(error).__name__})") from error
