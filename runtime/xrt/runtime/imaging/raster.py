"""PNG, JPEG, TIFF and BMP through Pillow."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image, ImageOps

from xrt.runtime.errors import UnreadableImage
from xrt.runtime.imaging.radiograph import DecodeLimits, Radiograph, to_eight_bits

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# How far colour channels may differ and still be a grey image: JPEG's chroma rounding moves them by a few levels.
_GREY_TOLERANCE = 12

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
                return _fold_to_grey(ImageOps.exif_transpose(image), unwindowed)
    except Image.UnidentifiedImageError:
        raise UnreadableImage("not a PNG, JPEG, TIFF, BMP or DICOM image") from None
    except UnreadableImage:
        raise
    except MemoryError:
        raise UnreadableImage("decoding needs more memory than the limit allows") from None
    except Exception as error:  # damaged files raise whatever the codec trips over
        raise UnreadableImage(f"damaged or truncated: {str(error) or type(error).__name__}") from error


def _fold_to_grey(image: Image.Image, unwindowed: str) -> Radiograph:
    notes: tuple[str, ...] = ()
    if image.mode in ("1", "L"):
        pixels = np.asarray(image.convert("L"))
    elif image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise UnreadableImage("pixel values are not finite")
        pixels = to_eight_bits(values, unwindowed, bits=16)
    else:
        # Transparency is laid on black, which is what collimated borders are.
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() != (255, 255):
            rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
        channels = np.asarray(rgba)[..., :3]
        spread = channels.max(axis=2).astype(np.int16) - channels.min(axis=2)
        if np.percentile(spread, 99) <= _GREY_TOLERANCE:
            pixels = np.ascontiguousarray(channels[..., 1])
        else:
            pixels, notes = np.asarray(rgba.convert("L")), ("colour image folded to grey",)
    return Radiograph(pixels=pixels, notes=notes)
