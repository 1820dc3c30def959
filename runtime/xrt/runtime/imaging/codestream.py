"""What the header of a compressed image says: JPEG, JPEG Lossless, JPEG-LS, JPEG 2000.

DICOM states rows, columns, bits and components a second time; where the two differ, the pixels are in doubt.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

Kind = Literal["JPEG", "JPEG Extended", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]
_KINDS: dict[int, Kind] = {
    0xC0: "JPEG", 0xC1: "JPEG Extended", 0xC2: "JPEG", 0xC3: "JPEG Lossless", 0xF7: "JPEG-LS",
}  # fmt: skip
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_SIZ = 0xFF51


@dataclass(frozen=True)
class Codestream:
    """The frame header of a codestream: what it is, and the size of what it holds."""

    kind: Kind
    bits: int
    height: int
    width: int
    components: int


def read_codestream(data: bytes) -> Codestream | None:
    """The frame header of `data`; None where it is no codestream of these, or ends before its frame header."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        start = data[:256].find(b"\xff\x4f\xff\x51")  # JP2 files hold the codestream in a box
        return _jpeg_2000(data, start) if start >= 0 else None
    except (struct.error, IndexError):
        return None


def _jpeg(data: bytes) -> Codestream | None:
    """ITU-T T.81 B.2: segments of a marker and their length, until the frame header."""
    place = 2
    while place < len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif marker in _KINDS:
            bits, height, width, components = struct.unpack(">BHHB", data[place + 4 : place + 10])
            return Codestream(_KINDS[marker], bits, height, width, components)
        elif marker == _START_OF_SCAN:
            return None
        else:
            place += 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    return None


def _jpeg_2000(data: bytes, start: int) -> Codestream:
    """ITU-T T.800 A.5.1: the SIZ segment follows the start of the codestream."""
    fields = struct.unpack(">HHHIIIIIIIIH", data[start + 2 : start + 42])
    width, height, left, top = fields[3:7]
    depth = data[start + 42]
    return Codestream("JPEG 2000", (depth & 0x7F) + 1, height - top, width - left, fields[11])
