"""What a decoding process does for one file: read, hash, decode, check, preprocess. Nothing here raises."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from xrt.runtime._io import sha256_of
from xrt.runtime.bundle.manifest import ContentCheck, Preprocessing, Reaction
from xrt.runtime.errors import NotAChestRadiograph, XrtError
from xrt.runtime.geometry import Placement
from xrt.runtime.imaging.content_check import check_content, react, require_picture
from xrt.runtime.imaging.decoders import decode_radiograph, read_bytes
from xrt.runtime.imaging.orientation import UPRIGHT, Orientation
from xrt.runtime.imaging.radiograph import COLOUR, DecodeLimits, DecodeOptions
from xrt.runtime.preprocessing import preprocess

PREVIEW_SIDE = 512
_NO_PREVIEW = np.empty((0, 0), np.uint8)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadOptions:
    """How files become inputs."""

    preprocessing: Preprocessing
    skip_body_part_check: bool = False
    limits: DecodeLimits = DecodeLimits()
    content_checks: Mapping[ContentCheck, Reaction] = field(default_factory=dict)

    @property
    def decode(self) -> DecodeOptions:
        """How they are decoded."""
        return DecodeOptions(self.preprocessing.without_window, self.skip_body_part_check, self.limits)


@dataclass(frozen=True)
class LoadedImage:
    """An image that is ready to be scored. `width` and `height` are the stored ones; `preview` is there to draw on.

    Input, placement and preview are those of the upright image, which `orientation` turns the stored one into.
    `sha256` is that of the file, empty for an image that was in no file of its own.
    """

    sha256: str
    input: UInt8[np.ndarray, "h w"]
    placement: Placement
    preview: UInt8[np.ndarray, "preview_h preview_w"]
    width: int
    height: int
    notes: tuple[str, ...] = ()
    study_uid: str = ""
    sop_instance_uid: str = ""
    patient_digest: str = ""
    view: str = ""
    orientation: Orientation = UPRIGHT

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright image, in whose pixels maps and boxes are placed."""
        return self.orientation.upright_size(self.height, self.width)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the graph's input."""
        return self.input.shape[0], self.input.shape[1]


@dataclass(frozen=True)
class SkippedImage:
    """A file that is not scored: `rejected` by its header, `failed`, or `unchanged` since it was last scored.

    `sha256` is empty if the file was not read.
    """

    status: Literal["rejected", "failed", "unchanged"]
    reason: str
    sha256: str = ""


def load_radiograph(
    path: Path, options: LoadOptions, known_sha256: str = "", preview: bool = True
) -> LoadedImage | SkippedImage:
    """Do all of it for the file at `path`; whatever goes wrong comes back as SkippedImage with its reason.

    A file whose content still has `known_sha256` is read and hashed, but not decoded. Without `preview` that is empty.
    """
    sha256 = ""
    try:
        data = read_bytes(path, options.limits)
        sha256 = sha256_of(data)
        if sha256 == known_sha256:
            return SkippedImage("unchanged", "", sha256)
        radiograph = decode_radiograph(data, options.decode, suffix=path.suffix)
        require_picture(radiograph.pixels)
        upright = radiograph.upright
        notes, checks = radiograph.notes, options.content_checks
        if not options.skip_body_part_check:
            notes = tuple(n for n in notes if n != COLOUR or react("colour", n, checks))
            notes += check_content(upright, checks)
        model_input, placement = preprocess(upright, options.preprocessing)
    except NotAChestRadiograph as error:
        return SkippedImage("rejected", str(error), sha256)
    except XrtError as error:
        return SkippedImage("failed", str(error), sha256)
    except MemoryError:
        return SkippedImage("failed", "decoding needs more memory than the limit allows", sha256)
    except Exception as error:  # one file must never stop a run
        log.debug("%s", error)
        return SkippedImage("failed", f"cannot be loaded ({type(error).__name__})", sha256)
    height, width = radiograph.pixels.shape
    return LoadedImage(
        sha256=sha256,
        input=model_input,
        placement=placement,
        preview=preview_of(upright) if preview else _NO_PREVIEW,
        width=width,
        height=height,
        notes=notes,
        study_uid=radiograph.study_uid,
        sop_instance_uid=radiograph.sop_instance_uid,
        patient_digest=radiograph.patient_digest,
        view=radiograph.view,
        orientation=radiograph.orientation,
    )


def preview_of(pixels: UInt8[np.ndarray, "h w"], *, least: int = 0) -> UInt8[np.ndarray, "preview_h preview_w"]:
    """The whole stored image to draw on, its long side `least` to 512 pixels."""
    height, width = pixels.shape
    side = max(height, width)
    factor = min(max(side, least), PREVIEW_SIDE) / side
    if factor == 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))
