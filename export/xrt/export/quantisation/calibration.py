"""The images that int8 is calibrated on, and a cache, since calibrating takes minutes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from xrt.export.sources import Source
from xrt.runtime.cache import cache_folder
from xrt.runtime.errors import UsageError
from xrt.runtime.files import write_durably
from xrt.runtime.gate.evidence import EvidenceImages, gathered_inputs

MIN_IMAGES = 32
"""Ranges of fewer images depend on which they are. A few hundred are better, and more make no difference."""
MAX_IMAGES = 512


def calibration_images(path: Path, source: Source, skipped: Callable[[str], None]) -> EvidenceImages:
    """Radiographs of a folder, or of the training part of a data set.

    Raises UsageError when there are too few, DataError when there is none.
    """
    found = gathered_inputs(path, source.preprocessing, source, "train", limit=MAX_IMAGES, skipped=skipped)
    if len(set(found.digests)) < MIN_IMAGES:
        raise UsageError(
            f"{path} has {len(set(found.digests))} different readable radiographs; int8 is calibrated on {MIN_IMAGES} "
            "at least, better on a few hundred: give a larger folder with --calibrate"
        )
    return found


def require_disjoint(calibration: EvidenceImages, evidence: EvidenceImages) -> None:
    """Raise UsageError when an image would certify what it was used to make."""
    known = dict(zip(calibration.digests, calibration.names, strict=True))
    shared = [(known[d], name) for d, name in zip(evidence.digests, evidence.names, strict=True) if d in known]
    if shared:
        raise UsageError(
            f"{len(shared)} of the images to calibrate on also certify (for example {shared[0][1]}): give --certify "
            "other images than --calibrate"
        )


def cached(key: Sequence[str], make: Callable[[], bytes]) -> bytes:
    """What `make` makes, or what it made before under the same key. An unwritable cache is done without."""
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()
    path = cache_folder("calibrations") / f"{name}.onnx"
    with contextlib.suppress(OSError):
        kept, _, digest = path.read_bytes().rpartition(b"\0")
        if hashlib.sha256(kept).hexdigest().encode() == digest:
            return kept
    made = make()
    with contextlib.suppress(OSError):
        write_durably(path, made + b"\0" + hashlib.sha256(made).hexdigest().encode())
    return made
