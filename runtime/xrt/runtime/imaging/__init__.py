"""From a file to eight grey bits: decoding, the header's verdict, limits, and the pool of decoding processes."""

from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph
from xrt.runtime.imaging.read import decode_radiograph, read_radiograph

__all__ = ["DecodeLimits", "Radiograph", "decode_radiograph", "read_radiograph"]
