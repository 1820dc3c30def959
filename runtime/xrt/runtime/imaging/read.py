"""One door for every format: the content decides which decoder reads it, not the name."""

from __future__ import annotations

from pathlib import Path

from xrt.runtime.errors import ImageError, UnreadableImage
from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph
from xrt.runtime.imaging.raster import decode_raster

DICOM_SUFFIXES = {".dcm", ".dicom", ".dic"}


def read_bytes(path: Path, limits: DecodeLimits) -> bytes:
    """The file's content. Raises UnreadableImage when it is missing, not a file, empty or over the size limit."""
    try:
        if not path.is_file():
            raise UnreadableImage("no such file" if not path.exists() else _not_a_file(path))
        size = path.stat().st_size
        if size == 0:
            raise UnreadableImage("the file is empty")
        if size > limits.file_bytes:
            raise UnreadableImage(f"{size / 2**20:.0f} MiB on disk, the limit is {limits.file_bytes / 2**20:.0f} MiB")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableImage(f"cannot be read: {error.strerror}") from error


def _not_a_file(path: Path) -> str:
    return "the folder cannot be listed" if path.is_dir() else "not a regular file"


def decode_radiograph(
    data: bytes,
    *,
    suffix: str = "",
    unwindowed: str = "minmax",
    any_body_part: bool = False,
    limits: DecodeLimits | None = None,
) -> Radiograph:
    """Decode a PNG, JPEG, TIFF, BMP or DICOM file's content.

    `any_body_part` overrides the header's verdict. Raises UnreadableImage with the reason, NotAChestRadiograph when
    a DICOM header says so (before its pixels are decoded), MissingDependency when DICOM support is not installed.
    """
    limits = limits or DecodeLimits()
    if data[128:132] == b"DICM" or suffix.lower() in DICOM_SUFFIXES:
        from xrt.runtime.imaging.dicom import decode_dicom

        return decode_dicom(data, unwindowed=unwindowed, any_body_part=any_body_part, limits=limits)
    return decode_raster(data, unwindowed=unwindowed, limits=limits)


def read_radiograph(
    path: str | Path,
    unwindowed: str = "minmax",
    *,
    any_body_part: bool = False,
    limits: DecodeLimits | None = None,
) -> Radiograph:
    """Read and decode one file in this process; raises what `decode_radiograph` raises, naming the path."""
    path, limits = Path(path), limits or DecodeLimits()
    try:
        data = read_bytes(path, limits)
        return decode_radiograph(
            data, suffix=path.suffix, unwindowed=unwindowed, any_body_part=any_body_part, limits=limits
        )
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error
