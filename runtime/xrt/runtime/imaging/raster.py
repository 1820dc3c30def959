"""PNG, JPEG, TIFF and BMP through Pillow."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import replace

import numpy as np

# Importing a plug-in registers its format.
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin  # noqa: F401

from xrt.runtime.bundle.manifest import WithoutWindow
from xrt.runtime.errors import UnreadableImage
from xrt.runtime.imaging.radiograph import (
    DecodeOptions,
    Radiograph,
    decoder_errors,
    require_pixels,
    to_grayscale,
    to_uint8,
)

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")


def decode_raster(data: bytes, options: DecodeOptions) -> Radiograph:
    """Decode the content of a raster file to one grey channel. Raises UnreadableImage with the reason."""
    with decoder_errors("damaged or truncated"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(data) as image:
            require_pixels(*image.size, options.limits)
            if (frames := getattr(image, "n_frames", 1)) > 1:
                raise UnreadableImage(f"{frames} pages or frames; one radiograph per file is read")
            image.load()
            inverted = _white_is_zero(image) and image.mode not in ("1", "L")
            radiograph = _to_radiograph(ImageOps.exif_transpose(image), options.without_window)
            return replace(radiograph, pixels=255 - radiograph.pixels) if inverted else radiograph


def _opened(data: bytes) -> Image.Image:
    """The image of the one format that recognises the content, not yet decoded.

    `Image.open` would hold the size against Pillow's own limit, which belongs to the whole process; the limit here is
    checked before anything is decoded.
    """
    for name in FORMATS:
        factory, recognises = Image.OPEN[name]
        if recognises is None or recognises(data[:16]) is True:
            try:
                return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):  # how Pillow's readers say "not my format"
                continue
    raise UnreadableImage("not a PNG, JPEG, TIFF, BMP or DICOM image")


def _to_radiograph(image: Image.Image, without_window: WithoutWindow) -> Radiograph:
    if image.mode in ("1", "L"):
        return Radiograph(pixels=np.asarray(image.convert("L")))
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise UnreadableImage("pixel values are not finite")
        integer = values.dtype.kind in "ui"
        possible = (0.0, 65535.0) if integer else (float(values.min()), float(values.max()))
        pixels = to_uint8(values, without_window if integer else "minmax", possible)
        return Radiograph(pixels=pixels)
    # Transparency is laid on black, which is what collimated borders are.
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    pixels, notes = to_grayscale(np.asarray(rgba)[..., :3])
    return Radiograph(pixels=pixels, notes=notes)


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF's PhotometricInterpretation 0, which Pillow undoes for eight bits but not for more."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0
