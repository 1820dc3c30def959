"""The table of decoders: what each reads, what it needs, and whether that is installed. Adding one is one line here.

The content decides which decoder reads a file, and its name only where the content says nothing: a DICOM file without
its preamble is known by how its first element is written, or by the name's ending.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from xrt.runtime.errors import ImageError, UnreadableImage
from xrt.runtime.imaging.radiograph import DEFAULT_DECODING, DecodeLimits, DecodeOptions, Radiograph

DICOM_SUFFIXES = {".dcm", ".dicom", ".dic"}


@dataclass(frozen=True)
class Decoder:
    """One family of formats. `packages` are what it needs, each with what it reads; `extra` installs them."""

    name: str
    recognises: Callable[[bytes, str], bool]
    decode: Callable[[bytes, DecodeOptions], Radiograph]
    packages: dict[str, str]
    extra: str | None = None

    def missing(self) -> dict[str, str]:
        """The distributions that are not installed, and what cannot be read without each."""
        return {package: reads for package, reads in self.packages.items() if not _is_installed(package)}

    @property
    def remedy(self) -> str:
        """The command that installs them."""
        return "pip install xrt-runtime" if self.extra is None else f"pip install 'xrt-runtime[{self.extra}]'"


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


_RASTER_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"BM", b"RIFF", b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51")
_FIRST_GROUPS = (b"\x02\0", b"\x08\0")


def _is_dicom(data: bytes, suffix: str) -> bool:
    if data[128:132] == b"DICM":
        return True
    if data.startswith(_RASTER_MAGIC):
        return False
    return suffix.lower() in DICOM_SUFFIXES or _begins_like_a_data_set(data)


def _begins_like_a_data_set(data: bytes) -> bool:
    """Whether content begins with an element of group 2 or 8, little endian, with its type or a sensible length."""
    if data[:2] not in _FIRST_GROUPS or len(data) < 16:
        return False
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    return explicit or (data[3] == 0 and int.from_bytes(data[4:8], "little") <= 256)


def _decode_dicom(data: bytes, options: DecodeOptions) -> Radiograph:
    from xrt.runtime.imaging.dicom import decode_dicom

    return decode_dicom(data, options)


def _decode_raster(data: bytes, options: DecodeOptions) -> Radiograph:
    from xrt.runtime.imaging.raster import decode_raster

    return decode_raster(data, options)


# The first that recognises a file reads it.
DECODERS: tuple[Decoder, ...] = (
    Decoder(
        "DICOM",
        _is_dicom,
        _decode_dicom,
        {"pydicom": "DICOM", "python-gdcm": "compressed DICOM (JPEG Lossless and others)"},
        "dicom",
    ),
    Decoder("PNG, JPEG, TIFF, BMP", lambda data, suffix: True, _decode_raster, {"pillow": "images"}),
)


def decode_radiograph(data: bytes, options: DecodeOptions = DEFAULT_DECODING, *, suffix: str = "") -> Radiograph:
    """Decode a PNG, JPEG, TIFF, BMP or DICOM file's content; `suffix` is the ending of its name.

    Raises UnreadableImage with the reason, NotAChestRadiograph when a DICOM header says so (before its pixels are
    decoded), MissingDependency when DICOM support is not installed.
    """
    decoder = next(decoder for decoder in DECODERS if decoder.recognises(data, suffix))
    return decoder.decode(data, options)


def read_radiograph(path: str | Path, options: DecodeOptions = DEFAULT_DECODING) -> Radiograph:
    """Read and decode one file in this process; raises what `decode_radiograph` raises, naming the path."""
    path = Path(path)
    try:
        return decode_radiograph(read_bytes(path, options.limits), options, suffix=path.suffix)
    except ImageError as error:
        raise type(error)(f"{path}: {error}") from error


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
