"""What decoding yields, and its limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num, UInt8

from xrt.runtime._io import first_line
from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import ImageError, UnreadableImage


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


DEFAULT_DECODING = DecodeOptions()


@dataclass(frozen=True)
class Radiograph:
    """One decoded image. Air is dark and bone is bright, whatever was stored.

    `pixels` is uint8 [H, W] at stored resolution. `notes` are remarks that a reader of the result must see. The
    rest comes from a DICOM header and is empty for other formats; no patient identifier is kept.
    """

    pixels: UInt8[np.ndarray, "h w"]
    notes: tuple[str, ...] = ()
    study_uid: str = ""
    sop_instance_uid: str = ""
    view: str = ""
    header: dict[str, str] = field(default_factory=dict)


# How far colour channels may differ and still be a grey image: JPEG's chroma rounding moves them by a few levels.
_GREY_TOLERANCE = 12


def to_uint8(
    values: Num[np.ndarray, "h w"],
    without_window: WithoutWindow,
    possible: tuple[float, float],
    padding: np.ndarray | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """Grey values that came with no window as uint8; `possible` is the range that their storage allows.

    Values of at most eight bits stay as they are. More become `minmax` (the values present, without `padding`, span
    0..255) or `bits` (the possible ones do).
    """
    if possible[0] >= 0 and possible[1] <= 255:
        return scale_to_uint8(values, 0.0, possible[1])
    if without_window == "bits":
        return scale_to_uint8(values, *possible)
    present = values if padding is None or padding.all() else values[~padding]
    return scale_to_uint8(values, float(present.min()), float(present.max()))


def to_grayscale(colour: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """One channel of a grey image in colour channels; true colour becomes its luminance (ITU-R BT.601), with a note."""
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    if np.percentile(spread, 99) <= _GREY_TOLERANCE:
        return np.ascontiguousarray(colour[..., 1]), ()
    luminance = colour.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(luminance).astype(np.uint8), ("colour image folded to grey",)


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
        raise UnreadableImage(f"{what}: {first_line(error)}") from error
