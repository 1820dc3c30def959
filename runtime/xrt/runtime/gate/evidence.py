"""Images on which a variant is held against its reference: phantoms, or a user's folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.cases import CaseTable, cases_for, recognised
from xrt.runtime.cases.readers import Classifier
from xrt.runtime.errors import DataError, ImageError
from xrt.runtime.files import image_files, on_one_line
from xrt.runtime.gate.limits import MIN_DECISIONS
from xrt.runtime.imaging import read_radiograph
from xrt.runtime.phantoms import generate
from xrt.runtime.preprocessing import preprocess

KNOWN_ANSWERS_SEED, CERTIFICATION_SEED = 20_101, 20_102
KNOWN_ANSWERS_COUNT = 24
MIN_IMAGES = 32
_PARTS = {"train": ("train", "train_val"), "test": ("test",)}
"""Some publishers leave it to the user to split validation off the training part."""


@dataclass(frozen=True)
class EvidenceImages:
    """Preprocessed inputs and where they come from.

    `names` says which image is which, `labels` the truth where it is known: 0 or 1 for each logit.
    """

    images: UInt8[np.ndarray, "n 1 height width"]
    source: str
    names: tuple[str, ...]
    labels: Float32[np.ndarray, "n logits"] | None = None

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of every input."""
        return tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in self.images)


def images_needed(decisions_per_image: int) -> int:
    """How many images give enough decisions for a verdict."""
    return max(MIN_IMAGES, -(-MIN_DECISIONS // decisions_per_image))


def phantom_inputs(count: int, seed: int, spec: Preprocessing) -> EvidenceImages:
    """Phantoms as inputs; they hold no patient's data, so they may travel in a bundle."""
    # A phantom smaller than 64 pixels would show nothing; it is drawn larger and resized like any image.
    size = max(64, spec.height, spec.width)
    images = [preprocess(phantom.image, spec)[0] for phantom in generate(count, seed=seed, size=size)]
    names = tuple(f"phantom {i} of seed {seed}" for i in range(count))
    return EvidenceImages(np.stack(images)[:, None], "synthetic", names)


def gathered_inputs(
    path: Path,
    spec: Preprocessing,
    model: Classifier,
    part: Literal["train", "test"],
    *,
    limit: int | None = None,
    skipped: Callable[[str], None] = lambda reason: None,
) -> EvidenceImages:
    """The radiographs of a labelled data set that has the classes of `model`, or those under any folder.

    The labels are arranged for the model's task, whatever the data set's own. Of a data set with official parts, `part`
    is taken. What is left out, images or labels, is reported to `skipped`. Raises DataError when there is no image, or
    when `path` is neither.
    """
    if recognised(path):
        try:
            return _of_cases(cases_for(model, path), spec, part, limit, skipped)
        except DataError as error:
            if not path.is_dir():
                raise
            skipped(f"the labels of {path.name} are not used: {error}")
    if not path.is_dir():
        raise DataError(f"{path} is neither a folder of radiographs nor a labelled data set")
    return folder_inputs(path, spec, limit=limit, skipped=skipped)


def _of_cases(
    table: CaseTable, spec: Preprocessing, part: str, limit: int | None, skipped: Callable[[str], None]
) -> EvidenceImages:
    for count, why in ((len(table.missing), "are not on disk"), (table.left_out, "belong to no class of the model")):
        if count:
            skipped(f"{count} images of {table.name} {why}")
    official = [i for i, case in enumerate(table.cases) if case.split in _PARTS[part]]
    chosen = official or range(len(table))
    images, kept = [], []
    for index in _in_turn(chosen, limit):
        if len(images) == limit:
            break
        try:
            images.append(table.load(index, spec))
            kept.append(index)
        except ImageError as error:
            skipped(on_one_line(str(error)))
    if not images:
        raise DataError(f"{table.name} holds no readable radiograph")
    return EvidenceImages(
        np.stack(images)[:, None],
        on_one_line(f"{table.name}, {part} part" if official else table.name),
        tuple(on_one_line(table.cases[i].key) for i in kept),
        table.labels[kept],
    )


def folder_inputs(
    folder: Path, spec: Preprocessing, *, limit: int | None = None, skipped: Callable[[str], None] | None = None
) -> EvidenceImages:
    """Every radiograph under `folder`, up to `limit`; others are reported to `skipped`.

    Raises DataError when there is none.
    """
    images, names = [], []
    for path in _in_turn(image_files(folder), limit):
        if len(images) == limit:
            break
        try:
            images.append(preprocess(read_radiograph(path, spec.unwindowed).pixels, spec)[0])
            names.append(on_one_line(path.relative_to(folder)))
        except ImageError as error:
            if skipped:
                skipped(on_one_line(str(error)))
    if not images:
        raise DataError(f"{folder} holds no readable chest radiograph")
    return EvidenceImages(np.stack(images)[:, None], on_one_line(folder.name), tuple(names))


T = TypeVar("T")


def _in_turn(items: Iterable[T], limit: int | None) -> list[T]:
    """All items; of more than `limit`, as many spread evenly first, then the others to replace them."""
    found = list(items)
    if limit is None or len(found) <= limit:
        return found
    first = dict.fromkeys(np.linspace(0, len(found) - 1, limit).round().astype(int).tolist())
    return [found[i] for i in (*first, *(i for i in range(len(found)) if i not in first))]
