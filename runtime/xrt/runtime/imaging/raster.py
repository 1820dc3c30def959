"""PNG, JPEG, TIFF and BMP through Pillow."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
from PIL import Image, ImageOps

from xrt.runtime.errors import UnreadableImage
from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph, fold_colours, to_eight_bits

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# The limit on pixels below is stricter than Pillow's and is checked before anything is decoded.
Image.MAX_IMAGE_PIXELS = None


def decode_raster(data: bytes, *, unwindowed: str, limits: DecodeLimits) -> Radiograph:
    """Decode the content of a raster file to one grey channel. Raises UnreadableImage with the reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                if width * height > limits.pixels:
                    raise UnreadableImage(f"{width} × {height} pixels, the limit is {limits.pixels:,} in all")
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    raise UnreadableImage(f"{frames} pages or frames; one radiograph a file is read")
                image.load()
                inverted = _white_is_zero(image) and image.mode not in ("1", "L")
                radiograph = _fold_to_grey(ImageOps.exif_transpose(image), unwindowed)
                return replace(radiograph, pixels=255 - radiograph.pixels) if inverted else radiograph
    except Image.UnidentifiedImageError:
        raise UnreadableImage("not a PNG, JPEG, TIFF, BMP or DICOM image") from None
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("decoding needs more memory than the limit allows") from None
    except Exception as error:  # damaged files raise whatever the codec trips over
        raise UnreadableImage(f"damaged or truncated: {str(error) or type(error).__name__}") from error


def _fold_to_grey(image: Image.Image, unwindowed: str) -> Radiograph:
    if image.mode in ("1", "L"):
        return Radiograph(pixels=np.asarray(image.convert("L")))
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise UnreadableImage("pixel values are not finite")
        integer = values.dtype.kind in "ui"
        possible = (0.0, 65535.0) if integer else (float(values.min()), float(values.max()))
        pixels = to_eight_bits(values, unwindowed if integer else "minmax", possible)
        return Radiograph(pixels=pixels)
    # Transparency is laid on black, which is what collimated borders are.
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    pixels, notes = fold_colours(np.asarray(rgba)[..., :3])
    return Radiograph(pixels=pixels, notes=notes)


def _white_is_zero(image: Image.Image) -> bool:
    """TIFF's PhotometricInterpretation 0, which Pillow undoes for eight bits but not for more."""
    tags = getattr(image, "tag_v2", None)
    return tags is not None and tags.get(262) == 0
