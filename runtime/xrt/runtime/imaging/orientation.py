"""How a stored image must be turned to stand upright: head up, the patient's left at the image's right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.geometry import Box


@dataclass(frozen=True)
class Orientation:
    """Rows and columns are exchanged first, then the rows, the columns, or both are reversed."""

    exchange: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    @property
    def is_upright(self) -> bool:
        """Whether the image stands upright as it is stored."""
        return self == UPRIGHT

    @property
    def description(self) -> str:
        """What is done, in words: turned by an angle, clockwise, and mirrored or not."""
        turns = {
            (False, False, False): "not turned",
            (False, False, True): "mirrored",
            (False, True, False): "turned by 180° and mirrored",
            (False, True, True): "turned by 180°",
            (True, False, False): "turned by 90° and mirrored",
            (True, False, True): "turned by 90°",
            (True, True, False): "turned by 270°",
            (True, True, True): "turned by 270° and mirrored",
        }
        return turns[self.exchange, self.reverse_rows, self.reverse_columns]

    def upright(self, stored: UInt8[np.ndarray, "stored_h stored_w"]) -> UInt8[np.ndarray, "h w"]:
        """The image as it is looked at."""
        turned = stored.T if self.exchange else stored
        if self.reverse_rows:
            turned = turned[::-1]
        if self.reverse_columns:
            turned = turned[:, ::-1]
        return np.ascontiguousarray(turned)

    def upright_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the upright image of a stored one."""
        return (width, height) if self.exchange else (height, width)

    def to_upright(self, box: Box, upright_size: tuple[int, int]) -> Box:
        """A box of the stored image in pixels of the upright one, which has (height, width)."""
        height, width = upright_size
        turned = Box(box.y, box.x, box.height, box.width) if self.exchange else box
        x = width - turned.x - turned.width if self.reverse_columns else turned.x
        y = height - turned.y - turned.height if self.reverse_rows else turned.y
        return Box(x, y, turned.width, turned.height)

    def to_stored(self, box: Box, upright_size: tuple[int, int]) -> Box:
        """A box of the upright image, of (height, width), in pixels of the stored one."""
        height, width = upright_size
        x = width - box.x - box.width if self.reverse_columns else box.x
        y = height - box.y - box.height if self.reverse_rows else box.y
        return Box(y, x, box.height, box.width) if self.exchange else Box(x, y, box.width, box.height)


UPRIGHT = Orientation()

# TIFF 6.0 and Exif 2.3, tag 274.
_EXIF = {
    1: UPRIGHT,
    2: Orientation(reverse_columns=True),
    3: Orientation(reverse_rows=True, reverse_columns=True),
    4: Orientation(reverse_rows=True),
    5: Orientation(exchange=True),
    6: Orientation(exchange=True, reverse_columns=True),
    7: Orientation(exchange=True, reverse_rows=True, reverse_columns=True),
    8: Orientation(exchange=True, reverse_rows=True),
}


def of_exif(value: int) -> Orientation:
    """The orientation that an Exif tag states; a value that Exif does not know states none."""
    return _EXIF.get(value, UPRIGHT)


def of_patient(directions: Sequence[str]) -> Orientation | None:
    """The orientation that DICOM's Patient Orientation states for a frontal view (PS3.3 C.7.6.1.1.1).

    `directions` are those in which columns and rows run: of R, L, H, F, of compound ones the first letter. None when
    they state no frontal view, or nothing that is known.
    """
    along_row, along_column = (str(direction)[:1].upper() for direction in directions)
    exchange = along_row in "HF"
    if exchange:
        along_row, along_column = along_column, along_row
    if along_row not in ("L", "R") or along_column not in ("F", "H"):
        return None
    return Orientation(exchange, reverse_rows=along_column == "H", reverse_columns=along_row == "R")
