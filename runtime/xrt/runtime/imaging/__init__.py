"""From a file to eight grey bits: decoders, the check of DICOM headers, limits, and the pool of decoding processes."""

from xrt.runtime.imaging.decoders import decode_radiograph, read_radiograph
from xrt.runtime.imaging.radiograph import DecodeLimits, DecodeOptions, Radiograph

__all__ = ["DecodeLimits", "DecodeOptions", "Radiograph", "decode_radiograph", "read_radiograph"]
