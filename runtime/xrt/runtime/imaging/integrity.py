"""Was a part of the file lost? What formats check themselves, and what their pixels give away.

PNG has a checksum for each chunk. JPEG has none, but a decoder that loses step says so, in a warning. Uncompressed
TIFF, BMP and DICOM have nothing: a part that was never written reads as zeros, and begins and ends where no edge of a
picture does. In compressed data without a checksum, nothing but such a part is zero for long.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt8

from xrt.runtime.errors import UnreadableImage

ZERO_FILLED = "a part of the pixel data is zero, as after an interrupted copy"
_LEAST_RUN = 512
"""Zeros in a row, in pixels, under which nothing is concluded: a disk's sector has 512 bytes, a page 4,096."""
_GAP = 2048
"""Free: under half a page of a disk, and over what empty packets of JPEG 2000 may be."""
_PNG_DAMAGED = "damaged: a checksum of the PNG file is wrong"
_PNG_END = b"IEND\xae\x42\x60\x82"
_LEAST_STEP = 16
_ALIGNED = 3
_SHARE = 0.9


def require_intact_png(data: bytes) -> None:
    """Raise UnreadableImage unless every chunk of a PNG file has the checksum that it states."""
    from PIL import PngImagePlugin

    try:
        PngImagePlugin.PngImageFile(io.BytesIO(data)).verify()
    except Exception as error:  # Pillow's readers raise many kinds
        raise UnreadableImage(_PNG_DAMAGED) from error
    if _PNG_END not in data:  # Pillow stops before it
        raise UnreadableImage(_PNG_DAMAGED)


def decode_intact_jpeg(data: bytes, colours: Literal["GRAY", "RGB"] = "GRAY") -> UInt8[np.ndarray, "h w *channels"]:
    """The pixels of an 8-bit JPEG file, [H, W] or [H, W, 3].

    Raises UnreadableImage when libjpeg warns: it goes on with grey where data are missing.
    """
    import simplejpeg

    try:
        pixels = simplejpeg.decode_jpeg(data, colours, strict=True)
    except ValueError as error:
        raise UnreadableImage("damaged or truncated JPEG data") from error
    return pixels[..., 0] if colours == "GRAY" else pixels


def require_no_gap(compressed: bytes) -> None:
    """Raise UnreadableImage where compressed data hold a stretch of zeros, as a lost part of a file reads.

    Codes of JPEG, JPEG-LS, JPEG 2000, WebP, deflate, LZW and run lengths are never zero for so long.
    """
    if bytes(_GAP) in compressed:
        raise UnreadableImage("damaged: a part of the compressed data is zero")


def zero_filled(stored: Shaped[np.ndarray, "h w *channels"]) -> str | None:
    """A note where stored values are zero over a stretch of the file that is no region of the picture; else None.

    `stored` is in the order of the file. A region of a picture has a border against what lies above and below it; a
    stretch of a file begins in the middle of a row whose upper neighbour goes on, or ends so.
    """
    zero = stored.reshape(stored.shape[0], -1) == 0
    width = zero.shape[1]
    if np.count_nonzero(zero) < _LEAST_RUN or zero.all():
        return None
    flat = zero.ravel()
    edges = np.flatnonzero(np.diff(flat.view(np.int8), prepend=0, append=0))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= min(_LEAST_RUN, width)
    for start, end in zip(starts[long], ends[long], strict=True):
        if _begins_inside(zero, int(start), int(end)) or _begins_inside(
            zero[::-1, ::-1], flat.size - int(end), flat.size - int(start)
        ):
            return ZERO_FILLED
    return None


def _begins_inside(zero: np.ndarray, start: int, end: int) -> bool:
    """Whether a run of zeros begins within the picture.

    Either the rows above go on, at least `_LEAST_STEP` pixels further than the row in which the run begins, and all to
    the same column, as a slanted edge does not; or nearly nothing directly above and below the run is zero.
    """
    width = zero.shape[1]
    row, column = divmod(start, width)
    if row >= _ALIGNED and end - start >= width - column:
        above = [np.flatnonzero(~zero[row - k]) for k in range(1, _ALIGNED + 1)]
        if all(len(columns) for columns in above):
            last = [int(columns[-1]) for columns in above]
            filled = np.count_nonzero(~zero[row - 1, column:])
            if max(last) - min(last) <= _ALIGNED and last[0] - column >= _LEAST_STEP and filled >= _LEAST_STEP:
                return True
    if row == 0 or end + width > zero.size or end - start < _LEAST_RUN:
        return False
    flat = zero.reshape(-1)
    length = min(end - start, width)
    return bool(
        np.count_nonzero(~flat[start - width : start - width + length]) >= _SHARE * length
        and np.count_nonzero(~flat[end + width - length : end + width]) >= _SHARE * length
    )
