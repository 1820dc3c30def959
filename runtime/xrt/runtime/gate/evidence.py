"""Images on which a variant is held against its reference: phantoms, or a user's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.errors import DataError, ImageError
from xrt.runtime.files import image_files
from xrt.runtime.gate.limits import MIN_DECISIONS
from xrt.runtime.imaging import read_radiograph
from xrt.runtime.phantoms import generate
from xrt.runtime.preprocessing import preprocess

KNOWN_ANSWERS_SEED, CERTIFICATION_SEED = 20_101, 20_102
KNOWN_ANSWERS_COUNT = 24
MIN_IMAGES = 32


@dataclass(frozen=True)
class EvidenceImages:
    """Preprocessed inputs and where they come from."""

    images: UInt8[np.ndarray, "n 1 height width"]
    source: str


def images_needed(decisions_per_image: int) -> int:
    """How many images give enough decisions for a verdict."""
    return max(MIN_IMAGES, -(-MIN_DECISIONS // decisions_per_image))


def phantom_inputs(count: int, seed: int, spec: Preprocessing) -> EvidenceImages:
    """Phantoms as inputs; they hold no patient's data, so they may travel in a bundle."""
    # A phantom smaller than 64 pixels would show nothing; it is drawn larger and resized like any image.
    size = max(64, spec.height, spec.width)
    images = [preprocess(phantom.image, spec)[0] for phantom in generate(count, seed=seed, size=size)]
    return EvidenceImages(np.stack(images)[:, None], "synthetic")


def folder_inputs(
    folder: Path, spec: Preprocessing, *, limit: int | None = None, skipped: Callable[[str], None] | None = None
) -> EvidenceImages:
    """Every radiograph under `folder`, up to `limit`; others are reported to `skipped`.

    Raises DataError when there is none.
    """
    images = []
    for path in _some(image_files(folder), limit):
        try:
            images.append(preprocess(read_radiograph(path, spec.unwindowed).pixels, spec)[0])
        except ImageError as error:
            if skipped:
                skipped(str(error))
    if not images:
        raise DataError(f"{folder} holds no readable chest radiograph")
    return EvidenceImages(np.stack(images)[:, None], folder.name)


def _some(paths: Iterable[Path], limit: int | None) -> list[Path]:
    """All paths, or `limit` of them spread evenly."""
    found = list(paths)
    if limit is None or len(found) <= limit:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, limit).round().astype(int)]
