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


def to_eight_bits(
    values: Num[np.ndarray, "h w"], unwindowed: str, bits: int, padding: np.ndarray | None = None
) -> UInt8[np.ndarray, "h w"]:
    """Grey values that came with no window as uint8.

    Eight bits stay as they are. More become `minmax` (the values present, without `padding`, span 0..255) or `bits`
    (0 .. 2**bits - 1 does).
    """
    if values.dtype == np.uint8 and bits <= 8:
        return values
    if unwindowed == "bits" and values.dtype.kind in "ui":
        low, high = 0.0, float(2**bits - 1)
    else:
        present = values if padding is None or padding.all() else values[~padding]
        low, high = float(present.min()), float(present.max())
    return scale_to_eight_bits(values, low, high)


def scale_to_eight_bits(values: Num[np.ndarray, "h w"], low: float, high: float) -> UInt8[np.ndarray, "h w"]:
    """Map [low, high] onto 0..255, rounded and clipped. A range of zero width gives zeros."""
    factor = 255.0 / (high - low) if high > low else 0.0
    scaled = (values.astype(np.float32) - np.float32(low)) * np.float32(factor)
    return np.rint(scaled).clip(0, 255).astype(np.uint8)
