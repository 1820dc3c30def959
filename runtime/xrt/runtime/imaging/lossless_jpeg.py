"""Are JPEG Lossless data whole? Decoders fill in what is missing and say nothing, so the pixels are counted back.

Lossless coding (ITU-T T.81, Annex H) spends on every pixel the Huffman code of how many bits its difference from the
prediction has, and those bits. Encoding the decoded pixels again takes as many bits as the data hold, exactly, unless
the decoder lost step or ran out of data on the way.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from xrt.runtime.errors import UnreadableImage

_FRAME, _TABLES, _SCAN, _RESTART_INTERVAL, _END = 0xC3, 0xC4, 0xDA, 0xDD, 0xD9
_LEAST_CATEGORY_WITHOUT_BITS = 16
_TRAILING = 2
"""Bytes that encoders may leave after the last code: what a flush of their buffer writes."""


@dataclass
class _Scan:
    """What the one scan of one component needs, and the bytes of its entropy-coded data, interval by interval."""

    precision: int = 0
    components: int = 0
    predictor: int = 0
    shift: int = 0
    table: int = 0
    restart: int = 0
    lengths: dict[int, np.ndarray] = field(default_factory=dict)
    intervals: list[bytes] = field(default_factory=list)


def require_intact_lossless(data: bytes, values: Integer[np.ndarray, "h w"]) -> None:
    """Raise UnreadableImage unless decoded `values` (their lowest bits count) need as many bytes as `data` has.

    Data of several components or scans, or whose intervals are no whole rows, are not judged.
    """
    try:
        scan = _read(data)
    except (struct.error, IndexError, ValueError) as error:
        raise UnreadableImage("damaged: a header of the JPEG Lossless data") from error
    width = values.shape[1]
    if scan is None or scan.restart % width or scan.table not in scan.lengths:
        return
    rows = scan.restart // width or values.shape[0]
    samples = (values.astype(np.int64) & (2**scan.precision - 1)) >> scan.shift
    bits = _bits_of(samples, scan, rows)
    needed = [-(-int(bits[start : start + rows].sum()) // 8) for start in range(0, len(samples), rows)]
    held = [len(interval.replace(b"\xff\x00", b"\xff")) for interval in scan.intervals]
    if len(held) != len(needed) or any(not 0 <= h - n <= _TRAILING for h, n in zip(held, needed, strict=True)):
        raise UnreadableImage("damaged: the JPEG Lossless data do not end where the picture does")


def _bits_of(samples: Integer[np.ndarray, "h w"], scan: _Scan, rows: int) -> Integer[np.ndarray, " h"]:
    """The bits that each row takes; the first row of every `rows` is predicted from the left alone."""
    left = np.empty_like(samples)
    left[:, 1:] = samples[:, :-1]
    above = np.empty_like(samples)
    above[1:] = samples[:-1]
    corner = np.empty_like(samples)
    corner[1:, 1:] = samples[:-1, :-1]
    predictions = {
        1: lambda: left,
        2: lambda: above,
        3: lambda: corner,
        4: lambda: left + above - corner,
        5: lambda: left + ((above - corner) >> 1),
        6: lambda: above + ((left - corner) >> 1),
        7: lambda: (left + above) >> 1,
    }
    prediction = predictions[scan.predictor]().copy()
    prediction[:, 0] = above[:, 0]
    prediction[::rows] = left[::rows]
    prediction[::rows, 0] = 1 << (scan.precision - scan.shift - 1)
    category = np.arange(-(2**15), 2**15)
    category = np.frexp(np.abs(category).astype(np.float64))[1].astype(np.int64)
    cost = scan.lengths[scan.table][category] + np.where(category < _LEAST_CATEGORY_WITHOUT_BITS, category, 0)
    difference = (samples - prediction).astype(np.uint16)  # modulo 2^16, as the standard has it
    return np.roll(cost, -(2**15))[difference].sum(axis=1)


def _read(data: bytes) -> _Scan | None:
    """The scan of a codestream; None where it has not one scan of one component."""
    scan, place = _Scan(), 2
    while place < len(data):
        marker = data[place + 1]
        if data[place] != 0xFF:
            return None
        if marker == 0xFF or marker == 0x01:
            place += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[place + 2 : place + 4])
        body = data[place + 4 : place + 2 + length]
        if marker == _FRAME:
            scan.precision, scan.components = body[0], body[5]
        elif marker == _TABLES:
            _read_tables(body, scan)
        elif marker == _RESTART_INTERVAL:
            (scan.restart,) = struct.unpack(">H", body[:2])
        elif marker == _SCAN:
            if scan.components != 1 or body[0] != 1:
                return None
            scan.table, scan.predictor, scan.shift = body[2] >> 4, body[3], body[5] & 15
            if not 1 <= scan.predictor <= 7:
                return None
            scan.intervals = _intervals(data[place + 2 + length :])
            return scan
        place += 2 + length
    return None


def _read_tables(body: bytes, scan: _Scan) -> None:
    """Huffman tables (B.2.4.2): the length of the code of every category."""
    place = 0
    while place < len(body):
        counts = body[place + 1 : place + 17]
        lengths = np.full(18, 99, np.int64)  # a category without a code cannot have been coded
        values = body[place + 17 : place + 17 + sum(counts)]
        of_each = [length for length, count in enumerate(counts, start=1) for _ in range(count)]
        for value, length in zip(values, of_each, strict=True):
            lengths[min(value, 17)] = length
        scan.lengths[body[place] & 15] = lengths
        place += 17 + sum(counts)


def _intervals(data: bytes) -> list[bytes]:
    """Entropy-coded data up to the next marker that is no restart, cut at the restarts."""
    intervals, start, place = list[bytes](), 0, data.find(b"\xff")
    while 0 <= place < len(data) - 1:
        marker = data[place + 1]
        if 0xD0 <= marker <= 0xD7:
            intervals.append(data[start:place])
            start = place + 2
        elif marker not in (0x00, 0xFF):
            return [*intervals, data[start:place].rstrip(b"\xff")]
        place = data.find(b"\xff", place + (1 if marker == 0xFF else 2))
    return [*intervals, data[start:]]
