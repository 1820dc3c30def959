"""Overlays of one image, drawn and written in a process of the pool."""

from __future__ import annotations

import errno
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from xrt.runtime._io import write_atomically
from xrt.runtime.geometry import Box, Placement
from xrt.runtime.heatmaps import overlay
from xrt.runtime.screening.result import Result

_QUALITY = 90
"""Free: JPEG at 90 takes a fortieth of the time of PNG, and its errors are under what the colours tell apart."""


@dataclass(frozen=True)
class Drawing:
    """What to draw: one map, its box in pixels of the upright image, and the file, relative to the output folder."""

    cam: Float32[np.ndarray, "h w"]
    box: Box | None
    name: str


@dataclass(frozen=True)
class DrawingJob:
    """The overlays of one image."""

    out: Path
    preview: UInt8[np.ndarray, "h w"]
    placement: Placement
    input_size: tuple[int, int]
    upright_size: tuple[int, int]
    drawings: Sequence[Drawing]


def drawing_job(result: Result, out: Path, *, every_class: bool) -> tuple[DrawingJob | None, dict[str, str]]:
    """The overlays to draw for a result, positives alone or every class, and their files by class name."""
    if result.status != "ok" or result.preview is None or not result.preview.size or result.placement is None:
        return None, {}
    drawings, files = [], dict[str, str]()
    for index, finding in enumerate(result.findings):
        cam = result.maps.get(finding.class_name)
        if cam is None or not (finding.positive or every_class):
            continue
        # The class's number keeps names apart that differ only in characters that file names cannot hold.
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in finding.class_name.lower())[:40]
        name = f"heatmaps/{result.sha256[:2]}/{result.sha256[:24]}-{index}-{slug}.jpg"
        drawings.append(Drawing(cam, result.upright_box(finding), name))
        files[finding.class_name] = name
    if not drawings:
        return None, {}
    return DrawingJob(
        out, result.preview, result.placement, result.input_size, result.upright_size, tuple(drawings)
    ), files


def require_no_link(folder: Path) -> None:
    """Raise OSError where a folder of heatmaps, or the one around it, is a link: it was planted."""
    if folder.is_symlink() or folder.parent.is_symlink():
        raise OSError(errno.ELOOP, "a folder for heatmaps is a link: remove it", str(folder))


def draw(job: DrawingJob) -> None:
    """Draw and write the overlays of a job; they are on disk when this returns. Raises OSError."""
    for folder in {(job.out / drawing.name).parent for drawing in job.drawings}:
        require_no_link(folder)
    for drawing in job.drawings:
        image = overlay(job.preview, drawing.cam, job.placement, job.input_size, job.upright_size, drawing.box)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=_QUALITY)
        write_atomically(job.out / drawing.name, buffer.getvalue())
