"""The stored values of a DICOM image: read from bytes or decoded, and compared with what the header says of them.

Header and pixels contradict each other more often than one would think: bits of the codec and of the header, values at
the upper end of their words, more or less data than rows and columns need. What can be read in one way only is read,
with a note; what is in doubt is decoded by a second library and compared; the rest is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from xrt.runtime.errors import MissingDependency, UnreadableImage
from xrt.runtime.imaging.codestream import Codestream, read_codestream
from xrt.runtime.imaging.integrity import decode_intact_jpeg, require_no_gap, zero_filled
from xrt.runtime.imaging.lossless_jpeg import require_intact_lossless

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_ITEM = b"\xfe\xff\x00\xe0"
_JPEG_8_BIT, _JPEG_EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_OF_CODESTREAM = {
    "JPEG": _JPEG_8_BIT,
    "JPEG Extended": _JPEG_EXTENDED,
    "JPEG Lossless": "1.2.840.10008.1.2.4.70",
    "JPEG-LS": "1.2.840.10008.1.2.4.81",
    "JPEG 2000": "1.2.840.10008.1.2.4.91",
}
_LOSSY = 1
"""By how much two decoders of a lossy codestream may differ: their inverse transforms round differently."""


@dataclass(frozen=True)
class StoredValues:
    """Grey values as they are stored, `bits` wide, or colour channels; `zero_filled` where a part was lost."""

    values: Shaped[np.ndarray, "h w *channels"]
    bits: int
    signed: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Header:
    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def pixel_bytes(self) -> int:
        return self.rows * self.columns * self.samples * self.allocated // 8


def read_stored_values(dataset: Dataset) -> StoredValues:
    """The stored values of the one frame of a data set whose header was checked.

    Raises UnreadableImage where they are damaged, of no supported form, or contradict the header, and
    MissingDependency where a library for them is missing.
    """
    header, notes = _header(dataset), list[str]()
    data = bytes(dataset.PixelData)
    syntax = _transfer_syntax(dataset, data, notes)
    if syntax.is_encapsulated:
        values, bits = _decoded(dataset, header, data, str(syntax), notes)
        return StoredValues(values, bits, header.signed, tuple(notes))
    surplus = len(data) - header.pixel_bytes
    if surplus < 0:
        raise UnreadableImage(f"truncated: {len(data):,} of {header.pixel_bytes:,} bytes of pixel data")
    if surplus >= max(header.pixel_bytes // max(header.rows, header.columns), 2):
        # As much as a row or a column more: another picture than the one that the header describes.
        raise UnreadableImage(
            f"{len(data):,} bytes of pixel data, where {header.columns} × {header.rows} pixels need "
            f"{header.pixel_bytes:,}"
        )
    if surplus > 1:  # data have an even length
        notes.append("the pixel data are followed by other bytes")
    if header.allocated < 8:
        return StoredValues(_by_pydicom(dataset), header.stored, header.signed, tuple(notes))
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    planes = header.samples if dataset.get("PlanarConfiguration") == 1 else 1
    words = np.frombuffer(data[: header.pixel_bytes], f"{order}u{header.allocated // 8}")
    if (lost := zero_filled(words.reshape(header.rows * planes, -1))) is not None:
        notes.append(lost)
    if header.samples > 1:
        return StoredValues(_by_pydicom(dataset), header.stored, header.signed, tuple(notes))
    words = words.reshape(header.rows, header.columns).astype(f"u{header.allocated // 8}", copy=False)
    return StoredValues(_of_words(words, header, notes), header.stored, header.signed, tuple(notes))


def _header(dataset: Dataset) -> _Header:
    allocated = int(dataset.get("BitsAllocated") or 0)
    stored = int(dataset.get("BitsStored") or allocated)
    high = int(dataset.get("HighBit", stored - 1) or stored - 1)
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if allocated not in (1, 8, 16, 32) or not 1 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise UnreadableImage(f"the header allocates {allocated} bits, stores {stored}, the highest at {high}")
    if samples not in (1, 3, 4):
        raise UnreadableImage(f"{samples} samples per pixel")
    signed = bool(dataset.get("PixelRepresentation") or 0)
    return _Header(int(dataset.Rows), int(dataset.Columns), samples, allocated, stored, high, signed)


def _transfer_syntax(dataset: Dataset, data: bytes, notes: list[str]) -> Any:
    """The transfer syntax; where the file does not state it, that of the data set's own encoding and content."""
    from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stated = dataset.file_meta.get("TransferSyntaxUID")
    if stated is not None:
        if not stated.is_transfer_syntax or stated.is_private:
            raise UnreadableImage("the transfer syntax is none of DICOM's")
        return stated
    if data[:4] == _ITEM:
        codestream = read_codestream(_frame(data))
        if codestream is None:
            raise UnreadableImage("the transfer syntax is not stated, and the content is no known codestream")
        syntax = UID(_OF_CODESTREAM[codestream.kind])
    else:
        implicit, little = dataset.original_encoding
        native = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        syntax = native if little or little is None else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    notes.append("transfer syntax not stated: read by content")
    return syntax


def _of_words(words: np.ndarray, header: _Header, notes: list[str]) -> np.ndarray:
    """The values within their words: `stored` bits up to the highest bit, with their sign."""
    shift = header.high + 1 - header.stored
    above = words >> np.array(header.high + 1, words.dtype) if header.high + 1 < header.allocated else words[:0]
    if above.any() and not header.signed:
        notes.append("bits above the highest one of the header were left out")
    values = (words >> np.array(shift, words.dtype)).astype(np.int64 if header.allocated == 32 else np.int32)
    values &= 2**header.stored - 1
    if header.signed:
        values -= (values >> (header.stored - 1)) << header.stored
    return values


def _decoded(dataset: Dataset, header: _Header, data: bytes, syntax: str, notes: list[str]) -> tuple[np.ndarray, int]:
    """The values of a compressed frame, and how many bits they have."""
    frame = _frame(data)
    codestream = read_codestream(frame)
    if codestream is None:
        if ".4." in syntax[13:]:
            raise UnreadableImage("the compressed pixel data do not begin with the header of their codec")
        require_no_gap(frame)
        return _by_pydicom(dataset), header.stored
    _require_size(codestream, header)
    if codestream.kind == "JPEG Lossless" and codestream.components == 1:
        return _lossless(header, frame, codestream, notes)
    require_no_gap(frame)
    if codestream.kind.startswith("JPEG") and codestream.bits == 8 and codestream.kind in ("JPEG", "JPEG Extended"):
        decode_intact_jpeg(frame)
    if syntax == _JPEG_EXTENDED and codestream.bits != 8:
        # pydicom decodes 8 bits of it alone.
        return _by_second_library(frame, codestream), codestream.bits
    return _compared(dataset, header, frame, codestream, notes)


def _lossless(header: _Header, frame: bytes, codestream: Codestream, notes: list[str]) -> tuple[np.ndarray, int]:
    """Grey values of a JPEG Lossless frame and their bits.

    Not by GDCM, which takes what libjpeg warns of for an exception that nothing catches: the process ends.
    """
    values = _by_second_library(frame, codestream)
    require_intact_lossless(frame, values)
    signed = _signed(values, codestream.bits, signed=header.signed)
    if codestream.bits == header.stored:
        return signed, header.stored
    if not np.array_equal(values, _by_third_library(frame)):
        raise _disagreement(header, codestream)
    return signed, _bits_of(signed, header, codestream, notes)


def _disagreement(header: _Header, codestream: Codestream) -> UnreadableImage:
    return UnreadableImage(
        f"the header says {header.stored} bits, the {codestream.kind} data say {codestream.bits}, and two decoders "
        "disagree about them"
    )


def _bits_of(values: np.ndarray, header: _Header, codestream: Codestream, notes: list[str]) -> int:
    """How many bits values have about which header and codestream differ: the header's, where they fit into them."""
    if not header.signed and codestream.bits > header.stored and int(values.max()) < 2**header.stored:
        return header.stored
    notes.append(f"the header says {header.stored} bits, the pixel data have {codestream.bits}")
    return codestream.bits


def _compared(
    dataset: Dataset, header: _Header, frame: bytes, codestream: Codestream, notes: list[str]
) -> tuple[np.ndarray, int]:
    """The values of a frame and their bits, by a second library too where header and codestream differ about these."""
    if codestream.bits == header.stored:
        return _by_pydicom(dataset), header.stored
    values = _by_pydicom(_with_bits(dataset, codestream.bits))
    other = _by_second_library(frame, codestream)
    apart = np.abs(values.astype(np.int64) - _signed(other, codestream.bits, signed=header.signed)).max()
    if apart > _LOSSY:
        raise _disagreement(header, codestream)
    return values, _bits_of(values, header, codestream, notes)


def _signed(values: np.ndarray, bits: int, *, signed: bool) -> np.ndarray:
    wide = values.astype(np.int64)
    return wide - ((wide >> (bits - 1)) << bits) if signed and values.dtype.kind == "u" else wide


def _require_size(codestream: Codestream, header: _Header) -> None:
    said = header.columns, header.rows, header.samples
    held = codestream.width, codestream.height, codestream.components
    if said != held:
        raise UnreadableImage(
            "the header says {} × {} pixels of {} components, the compressed data hold {} × {} of {}".format(
                *said, *held
            )
        )


def _frame(data: bytes) -> bytes:
    from pydicom.encaps import generate_frames

    frames = list(generate_frames(data, number_of_frames=1))
    if len(frames) != 1:
        raise UnreadableImage("the pixel data hold no frame")
    return frames[0]


def _with_bits(dataset: Dataset, bits: int) -> Dataset:
    """A copy of the data set whose header says how many bits the codestream has."""
    from copy import copy

    other = copy(dataset)
    other.BitsAllocated = 8 if bits <= 8 else 16
    other.BitsStored, other.HighBit = bits, bits - 1
    return other


def _by_pydicom(dataset: Dataset) -> np.ndarray:
    from pydicom.pixels import pixel_array

    try:
        return pixel_array(dataset)
    except RuntimeError as error:
        if "plugin" not in str(error):
            raise
        name = dataset.file_meta.TransferSyntaxUID.name
        if "missing" in str(error) or "dependencies" in str(error):
            raise MissingDependency(
                f"{name} needs a decoder that is not installed: pip install 'xrt-runtime[dicom]'"
            ) from None
        raise UnreadableImage(f"the pixel data are damaged, or {name} is not supported") from None


def _by_second_library(frame: bytes, codestream: Codestream) -> np.ndarray:
    try:
        import imagecodecs
    except ImportError:
        raise MissingDependency(
            f"{codestream.kind} of {codestream.bits} bits needs imagecodecs: pip install 'xrt-runtime[dicom]'"
        ) from None
    unsupported = f"transfer syntax not supported: {codestream.kind} with {codestream.bits} bits"
    decode = {"JPEG-LS": imagecodecs.jpegls_decode, "JPEG 2000": imagecodecs.jpeg2k_decode}
    try:
        values = np.asarray(decode.get(codestream.kind, imagecodecs.jpeg8_decode)(frame))
    except (RuntimeError, ValueError) as error:
        raise UnreadableImage(unsupported) from error
    if values.shape[:2] != (codestream.height, codestream.width):
        raise UnreadableImage(unsupported)
    return values


def _by_third_library(frame: bytes) -> np.ndarray:
    """JPEG Lossless by a decoder that shares no code with libjpeg."""
    import imagecodecs

    try:
        return np.asarray(imagecodecs.jpegsof3_decode(frame))
    except (RuntimeError, ValueError) as error:
        raise UnreadableImage("damaged: a second decoder cannot read the JPEG Lossless data") from error
