"""What decoding yields, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num, UInt8


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds that stop decompression bombs before they start: file size, pixels, and for a process time and memory."""

    file_bytes: int = 512 * 2**20
    pixels: int = 120_000_000
    seconds: float = 60.0
    memory_bytes: int = 6 * 2**30


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


def to_eight_bits(
    values: Num[np.ndarray, "h w"],
    unwindowed: str,
    possible: tuple[float, float],
    padding: np.ndarray | None = None,
) -> UInt8[np.ndarray, "h w"]:
    """Grey values that came with no window as uint8; `possible` is the range that their storage allows.

    Values of at most eight bits stay as they are. More become `minmax` (the values present, without `padding`, span
    0..255) or `bits` (the possible ones do).
    """
    if possible[0] >= 0 and possible[1] <= 255:
        return scale_to_eight_bits(values, 0.0, possible[1])
    if unwindowed == "bits":
        return scale_to_eight_bits(values, *possible)
    present = values if padding is None or padding.all() else values[~padding]
    return scale_to_eight_bits(values, float(present.min()), float(present.max()))


def fold_colours(colour: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h w"], tuple[str, ...]]:
    """One channel of a grey image in colour channels; true colour becomes its luminance (ITU-R BT.601), with a note."""
    spread = colour.max(axis=2).astype(np.int16) - colour.min(axis=2)
    if np.percentile(spread, 99) <= _GREY_TOLERANCE:
        return np.ascontiguousarray(colour[..., 1]), ()
    luminance = colour.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(luminance).astype(np.uint8), ("colour image folded to grey",)


def scale_to_eight_bits(values: Num[np.ndarray, "h w"], low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """Map [low, high] onto 0..255, rounded and clipped. A range of zero width gives zeros."""
    factor = 255.0 / (high - low) if high > low else 0.0
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(factor)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)
