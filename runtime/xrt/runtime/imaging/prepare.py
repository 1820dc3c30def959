"""What a decoding process does for one file: read, hash, decode, judge, preprocess. Nothing here raises."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import NotAChestRadiograph, UnreadableImage, XrtError
from xrt.runtime.imaging.radiograph import DecodeLimits
from xrt.runtime.imaging.read import decode_radiograph, read_bytes
from xrt.runtime.preprocessing import Placement, preprocess

MIN_SIDE = 16


@dataclass(frozen=True)
class PrepareOptions:
    """How files become inputs. `preview_side` bounds the long side, in pixels, of the copy that overlays use."""

    preprocessing: Preprocessing
    any_body_part: bool = False
    preview_side: int = 512
    limits: DecodeLimits = DecodeLimits()


@dataclass(frozen=True)
class Prepared:
    """An image that is ready to be scored. `width` and `height` are the stored ones."""

    sha256: str
    input: UInt8[np.ndarray, "h w"]
    placement: Placement
    preview: UInt8[np.ndarray, "preview_h preview_w"]
    width: int
    height: int
    notes: tuple[str, ...] = ()
    study_uid: str = ""
    sop_instance_uid: str = ""
    view: str = ""


@dataclass(frozen=True)
class NotPrepared:
    """A file that is not scored: `rejected` by its header, `failed`, or `unchanged` since it was last scored.

    `sha256` is empty if the file was not read.
    """

    status: Literal["rejected", "failed", "unchanged"]
    reason: str
    sha256: str = ""


def prepare(path: Path, options: PrepareOptions, known_sha256: str = "") -> Prepared | NotPrepared:
    """Do all of it for the file at `path`; whatever goes wrong comes back as NotPrepared with its reason.

    A file whose content still has `known_sha256` is read and hashed, but not decoded.
    """
    sha256 = ""
    try:
        data = read_bytes(path, options.limits)
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 == known_sha256:
            return NotPrepared("unchanged", "", sha256)
        radiograph = decode_radiograph(
            data,
            suffix=path.suffix,
            unwindowed=options.preprocessing.unwindowed,
            any_body_part=options.any_body_part,
            limits=options.limits,
        )
        if min(radiograph.pixels.shape) < MIN_SIDE:
            height, width = radiograph.pixels.shape
            raise UnreadableImage(f"{width} × {height} pixels; a radiograph has at least {MIN_SIDE} a side")
        model_input, placement = preprocess(radiograph.pixels, options.preprocessing)
    except NotAChestRadiograph as error:
        return NotPrepared("rejected", str(error), sha256)
    except XrtError as error:
        return NotPrepared("failed", str(error), sha256)
    except MemoryError:
        return NotPrepared("failed", "decoding needs more memory than the limit allows", sha256)
    except Exception as error:  # one file must never stop a run
        return NotPrepared("failed", f"cannot be prepared: {type(error).__name__}: {error}", sha256)
    height, width = radiograph.pixels.shape
    return Prepared(
        sha256=sha256,
        input=model_input,
        placement=placement,
        preview=_preview(radiograph.pixels, options.preview_side),
        width=width,
        height=height,
        notes=radiograph.notes,
        study_uid=radiograph.study_uid,
        sop_instance_uid=radiograph.sop_instance_uid,
        view=radiograph.view,
    )


def _preview(pixels: UInt8[np.ndarray, "h w"], side: int) -> UInt8[np.ndarray, "preview_h preview_w"]:
    height, width = pixels.shape
    factor = side / max(height, width)
    if factor >= 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
