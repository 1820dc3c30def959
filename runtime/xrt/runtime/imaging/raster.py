"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000: through Pillow, and where it loses bits or damage, through others."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Num

# Importing a plug-in registers its format.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import MissingDependency, UnreadableImage
from xrt.runtime.imaging.codestream import read_codestream
from xrt.runtime.imaging.integrity import decode_intact_jpeg, require_intact_png, require_no_gap, zero_filled
from xrt.runtime.imaging.orientation import of_exif
from xrt.runtime.imaging.radiograph import (
    DecodeOptions,
    Radiograph,
    decoder_errors,
    require_pixels,
    to_grayscale,
    to_uint8,
)

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
_ORIENTATION, _PHOTOMETRIC, _SAMPLE_BITS = 274, 262, 258
"""Tags of TIFF 6.0 and Exif."""
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags of TIFF 6.0: where its strips and tiles are, and how long."""
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
_OTHER_FORMATS = {b"%PDF": "PDF", b"PK\x03\x04": "ZIP", b"\x1f\x8b": "gzip", b"SIMPLE": "FITS", b"NRRD": "NRRD"}


def decode_raster(data: bytes, options: DecodeOptions) -> Radiograph:
    """Decode the content of a raster file to one grey channel. Raises UnreadableImage with the reason."""
    with decoder_errors("damaged or truncated"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _opened(data)
        if image is None:
            return _grey(*_by_tifffile(data, options), options.without_window)
        with image:
            require_pixels(*image.size, options.limits)
            # Phones write a second picture behind the first, which is the one that was taken.
            if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
                raise UnreadableImage(f"{frames} pages or frames; one radiograph per file is read")
            orientation = of_exif(int(image.getexif().get(_ORIENTATION) or 1))
            radiograph = _to_radiograph(image, data, options)
    notes = radiograph.notes
    if not orientation.is_upright:
        notes += (f"{orientation.description}, as the file's Exif data say",)
    return Radiograph(radiograph.pixels, notes, orientation=orientation)


def _opened(data: bytes) -> Image.Image | None:
    """The image of the one format that recognises the content, not yet decoded; None for a TIFF that Pillow lacks.

    `Image.open` would hold the size against Pillow's own limit, which belongs to the whole process; the limit here is
    checked before anything is decoded.
    """
    for name in FORMATS:
        factory, recognises = Image.OPEN[name]
        if recognises is None or recognises(data[:16]) is True:
            try:
                return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # how Pillow's readers say "not my format"
                if name == "TIFF" and len(data) > 64:
                    return None
    raise UnreadableImage(_refusal(data))


def _refusal(data: bytes) -> str:
    """Why content is not read, by the name of its format where that is known."""
    Image.init()
    name = next((name for magic, name in _OTHER_FORMATS.items() if data.startswith(magic)), None)
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1"):
        name = "HEIC"
    for known, (_, recognises) in Image.OPEN.items():
        if name is None and known not in FORMATS and recognises is not None and recognises(data[:16]) is True:
            name = known
    what = "PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM"
    return f"not a {what} image" if name is None else f"{name} is not read: convert it to {what}"


def _to_radiograph(image: Image.Image, data: bytes, options: DecodeOptions) -> Radiograph:
    """One grey channel of an opened image."""
    if image.format == "PNG":
        require_intact_png(data)
        if data[24] == 16 and data[25] in (2, 6):
            return _wide_colour(_by_imagecodecs(data, "png"), options.without_window)
    if image.format in ("JPEG", "MPO"):
        if image.mode in ("L", "RGB"):
            return _grey(decode_intact_jpeg(data, "GRAY" if image.mode == "L" else "RGB"), (), options.without_window)
        decode_intact_jpeg(data)
    if image.format in ("WEBP", "JPEG2000", "TIFF"):
        for part in _compressed_parts(image, data):
            require_no_gap(part)
    if image.format == "JPEG2000" and image.mode not in ("L", "I;16"):
        codestream = read_codestream(data)
        if codestream is not None and codestream.bits > 8:
            return _wide_colour(_by_imagecodecs(data, "jpeg2k"), options.without_window)
    if image.format == "TIFF" and image.mode in ("RGB", "RGBA", "CMYK") and _sample_bits(image) > 8:
        values, notes = _by_tifffile(data, options)
        return _grey(values, notes, options.without_window)
    image.load()
    notes = _lost_part(image)
    white_is_zero = _white_is_zero(image)
    if image.mode in ("1", "L"):
        return Radiograph(np.asarray(image.convert("L")), notes)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        radiograph = _grey(np.asarray(image), notes, options.without_window)
        return Radiograph(255 - radiograph.pixels, radiograph.notes) if white_is_zero else radiograph
    # Transparency is laid on black, which is what collimated borders are.
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    pixels, remarks = to_grayscale(np.asarray(rgba)[..., :3])
    return Radiograph(pixels, notes + remarks)


def _grey(
    values: Num[np.ndarray, "h w *channels"], notes: tuple[str, ...], without_window: WithoutWindow
) -> Radiograph:
    """Grey values, or colour, of any type as a radiograph. Raises UnreadableImage unless finite."""
    if values.ndim == 3:
        if values.dtype != np.uint8:
            return _wide_colour(values, without_window)
        pixels, remarks = to_grayscale(np.asarray(values)[..., :3])
        return Radiograph(pixels, notes + remarks)
    if values.dtype == np.uint8:
        return Radiograph(np.asarray(values), notes)
    if not np.isfinite(values).all():
        raise UnreadableImage("pixel values are not finite")
    if values.dtype.kind in "ui":
        pixels, remarks = to_uint8(values, without_window, (0.0, 65535.0))
    else:
        pixels, remarks = to_uint8(values, "minmax", (-np.inf, np.inf))
    return Radiograph(pixels, notes + remarks)


def _wide_colour(values: np.ndarray, without_window: WithoutWindow) -> Radiograph:
    """Colour of more than eight bits: grey in three channels is the grey, with all its bits."""
    colour = values[..., :3]
    widest = max(int(colour.max()), 1)
    narrow = (colour.astype(np.float32) * (255 / widest)).astype(np.uint8)
    pixels, remarks = to_grayscale(narrow)
    if remarks:
        return Radiograph(pixels, remarks)
    return _grey(np.ascontiguousarray(colour[..., 1]), (), without_window)


def _by_imagecodecs(data: bytes, kind: str) -> np.ndarray:
    try:
        import imagecodecs
    except ImportError:
        raise MissingDependency("colour of 16 bits needs imagecodecs: pip install 'xrt-runtime[formats]'") from None
    return np.asarray(imagecodecs.png_decode(data) if kind == "png" else imagecodecs.jpeg2k_decode(data))


def _by_tifffile(data: bytes, options: DecodeOptions) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values of a TIFF file of a form that Pillow does not read: 64-bit floats, colour of 16 bits."""
    try:
        import tifffile
    except ImportError:
        raise MissingDependency("this form of TIFF needs tifffile: pip install 'xrt-runtime[formats]'") from None
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if len(file.pages) != 1:
                raise UnreadableImage(f"{len(file.pages)} pages or frames; one radiograph per file is read")
            page = file.pages.first
            require_pixels(page.imagewidth, page.imagelength, options.limits)
            values = np.asarray(page.asarray())
            white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE
    except tifffile.TiffFileError as error:
        raise UnreadableImage("not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image") from error
    is_image = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
    if not is_image or values.dtype.kind not in "uif":
        raise UnreadableImage("this form of TIFF is not read")
    lost = zero_filled(values)
    return (values.max() - values if white_is_zero else values), () if lost is None else (lost,)


def _lost_part(image: Image.Image) -> tuple[str, ...]:
    """A note where an uncompressed file has zeros that belong to no region of the picture."""
    uncompressed = image.format == "BMP" or (image.format == "TIFF" and image.info.get("compression") == "raw")
    if not uncompressed or image.mode == "1":
        return ()
    stored = np.asarray(image)
    if image.mode == "L" and _white_is_zero(image):
        stored = 255 - stored
    if image.format == "BMP":  # the last row comes first
        stored = stored[::-1]
    lost = zero_filled(stored)
    return () if lost is None else (lost,)


def _compressed_parts(image: Image.Image, data: bytes) -> Iterator[bytes]:
    """The parts of a file that hold compressed pixels, without what stands around them."""
    if image.format == "WEBP":
        place = 12
        while place + 8 <= len(data):
            length = int.from_bytes(data[place + 4 : place + 8], "little")
            if data[place : place + 3] == b"VP8" and data[place + 3 : place + 4] != b"X":
                yield data[place + 8 : place + 8 + length]
            place += 8 + length + length % 2
    elif image.format == "JPEG2000":
        yield data[max(0, data.find(_START_OF_CODESTREAM)) :]
    elif image.info.get("compression") != "raw" and image.mode != "1":
        tags = getattr(image, "tag_v2", {})
        for offsets, lengths in _STRIPS, _TILES:
            for offset, length in zip(tags.get(offsets, ()), tags.get(lengths, ()), strict=False):
                yield data[offset : offset + length]


def _sample_bits(image: Image.Image) -> int:
    bits = getattr(image, "tag_v2", {}).get(_SAMPLE_BITS, 8)
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF's PhotometricInterpretation 0, which Pillow undoes for eight bits but not for more."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(_PHOTOMETRIC) == 0
