"""DICOM's lookup tables: Modality LUT and VOI LUT, however their data are stored (PS3.3 C.11.1.1, C.11.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Num

from xrt.runtime.errors import UnreadableImage

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


@dataclass(frozen=True)
class LookupTable:
    """Entries for the values from `first` on; values outside take the nearest entry."""

    first: int
    entries: Num[np.ndarray, " entries"]
    bits: int

    def __call__(self, values: Num[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """The entry of each value."""
        index = np.rint(values).astype(np.int64) - self.first
        return self.entries[index.clip(0, len(self.entries) - 1)].astype(np.float32)

    @property
    def range(self) -> tuple[float, float]:
        """The range of what a table of P-values may give: 0 to the largest number of its bits.

        A table that uses a part of the stated bits alone, as old devices wrote them, spans the bits that it uses.
        """
        used = max(int(self.entries.max()).bit_length(), 1)
        return 0.0, float(2 ** min(self.bits, used) - 1)


def read_lookup_table(item: Dataset, *, signed: bool) -> LookupTable:
    """The table of one item of a LUT sequence; `signed` where it is applied to values that may be negative.

    Its data may be 8-bit entries in bytes, or entries of any number of bits in 16-bit words; the length says which.
    Raises UnreadableImage when its description and its data do not fit.
    """
    descriptor = item.get("LUTDescriptor")
    if descriptor is None or "LUTData" not in item or len(descriptor) != 3:
        raise UnreadableImage("a lookup table without its description or data")
    count, first, bits = (int(v) for v in descriptor)
    count = count or 65536
    if signed and first > 32767:
        first -= 65536
    if not 1 <= bits <= 16:
        raise UnreadableImage(f"a lookup table of {bits} bits")
    data = _bytes(item.LUTData)
    if len(data) == 2 * count:
        entries = np.frombuffer(data, "<u2")
    elif len(data) == count + count % 2:
        entries = np.frombuffer(data[:count], np.uint8)
    else:
        raise UnreadableImage(f"a lookup table of {count} entries has {len(data)} bytes of data")
    return LookupTable(first, entries, bits)


def _bytes(data: object) -> bytes:
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    values = np.asarray(data).reshape(-1)
    return (values.astype(np.int64) & 0xFFFF).astype("<u2").tobytes()
