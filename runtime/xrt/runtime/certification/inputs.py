"""Validation inputs: phantoms or radiographs on which a variant is compared with its reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from xrt.runtime._io import comma_list, image_files, on_one_line, sha256_of
from xrt.runtime.bundle.certificate import SYNTHETIC
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.datasets import CaseTable, Classifier, is_dataset, open_dataset_for
from xrt.runtime.errors import DataError, ImageError, UsageError
from xrt.runtime.gate import MIN_DECISIONS, MIN_IMAGES, distinct_images, shown_in
from xrt.runtime.imaging import DecodeOptions, read_radiograph
from xrt.runtime.phantoms import phantom_images
from xrt.runtime.phantoms.files import are_phantoms
from xrt.runtime.preprocessing import preprocess
from xrt.runtime.progress import SILENT, Progress

PHANTOM_SEED = 20_102
KNOWN_ANSWERS_COUNT = 24
_PARTS = {"train": ("train", "train_val"), "test": ("test",)}
"""Some publishers leave it to the user to split validation off the training part."""
Item = TypeVar("Item")
InputImage = UInt8[np.ndarray, "height width"]


@dataclass(frozen=True)
class ValidationInputs:
    """Preprocessed inputs and where they come from: those that validate a variant, or that int8 is calibrated on.

    `names` says which image is which, `labels` the truth where it is known: 0 or 1 for each logit. `named_by_place`
    says that the labels have no names, or others than the classes', and were matched by their order alone. `synthetic`
    says that these are phantoms.
    """

    images: UInt8[np.ndarray, "n 1 height width"]
    source: str
    names: tuple[str, ...]
    labels: Float32[np.ndarray, "n logits"] | None = None
    named_by_place: bool = False
    synthetic: bool = False

    def without(self, others: ValidationInputs, *, progress: Progress = SILENT) -> ValidationInputs:
        """These inputs but those that show what one of `others` shows, which are noted to `progress`.

        Raises UsageError when none remains.
        """
        shown = shown_in(self.images, others.images)
        if not shown.any():
            return self
        names = comma_list([name for name, same in zip(self.names, shown, strict=True) if same])
        if shown.all():
            raise UsageError(
                f"the images to calibrate on also certify, all {len(shown)} of them ({names}): give --certify other "
                "images than --calibrate"
            )
        progress.note(
            f"{shown.sum()} of {len(shown)} images to certify are left out, int8 is calibrated on the same: {names}"
        )
        kept = tuple(name for name, same in zip(self.names, shown, strict=True) if not same)
        labels = None if self.labels is None else self.labels[~shown]
        return replace(self, images=self.images[~shown], names=kept, labels=labels)

    @cached_property
    def distinct(self) -> Bool[np.ndarray, " n"]:
        """Which images show something else than those before them."""
        return distinct_images(self.images)

    @property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of every input."""
        return tuple(sha256_of(image.tobytes()) for image in self.images)


def images_needed(decisions_per_image: int) -> int:
    """How many images give enough decisions for a verdict."""
    return max(MIN_IMAGES, -(-MIN_DECISIONS // decisions_per_image))


def phantom_inputs(count: int, seed: int, spec: Preprocessing) -> ValidationInputs:
    """Phantoms as validation inputs."""
    names = tuple(f"phantom {i} of seed {seed}" for i in range(count))
    return ValidationInputs(phantom_images(count, seed, spec), SYNTHETIC, names, synthetic=True)


def read_inputs(
    path: Path,
    spec: Preprocessing,
    model: Classifier,
    part: Literal["train", "test"],
    *,
    limit: int | None = None,
    progress: Progress = SILENT,
) -> ValidationInputs:
    """The radiographs of a labelled data set that has the classes of `model`, or those under any folder.

    The labels are mapped to the model's task, whatever the data set's own. Of a data set with official parts, `part`
    is taken. What is left out, images or labels, is noted to `progress`. Raises DataError when there is no image, or
    when `path` is neither.
    """
    if is_dataset(path):
        try:
            return _dataset_inputs(open_dataset_for(model, path), spec, part, limit, progress)
        except DataError as error:
            if not path.is_dir():
                raise
            progress.note(f"the labels of {path.name} are not used: {error}")
    if not path.is_dir():
        raise DataError(f"{path} is neither a folder of radiographs nor a labelled data set")
    return folder_inputs(path, spec, limit=limit, progress=progress)


def folder_inputs(
    folder: Path, spec: Preprocessing, *, limit: int | None = None, progress: Progress = SILENT
) -> ValidationInputs:
    """Every radiograph under `folder`, up to `limit`; others are noted to `progress`.

    Raises DataError when there is none.
    """

    def load(path: Path) -> InputImage:
        return preprocess(read_radiograph(path, DecodeOptions(spec.without_window)).upright, spec)[0]

    loaded = list(_readable(image_files(folder), load, limit, progress))
    if not loaded:
        raise DataError(f"{folder} holds no readable chest radiograph")
    names = tuple(on_one_line(path.relative_to(folder)) for path, _ in loaded)
    return ValidationInputs(
        np.stack([image for _, image in loaded])[:, None],
        on_one_line(folder.name),
        names,
        synthetic=are_phantoms(folder),
    )


def _dataset_inputs(
    table: CaseTable, spec: Preprocessing, part: str, limit: int | None, progress: Progress
) -> ValidationInputs:
    for count, why in ((len(table.missing), "are not on disk"), (table.left_out, "belong to no class of the model")):
        if count:
            progress.note(f"{count} images of {table.name} {why}")
    official = [i for i, case in enumerate(table.cases) if case.split in _PARTS[part]]
    candidates = official or range(len(table))
    loaded = list(_readable(candidates, lambda index: table.load(index, spec), limit, progress))
    if not loaded:
        raise DataError(f"{table.name} holds no readable radiograph")
    indices = [index for index, _ in loaded]
    return ValidationInputs(
        np.stack([image for _, image in loaded])[:, None],
        on_one_line(f"{table.name}, {part} part" if official else table.name),
        tuple(on_one_line(table.cases[i].key) for i in indices),
        table.labels[indices],
        table.named_by_place,
        are_phantoms(table.root),
    )


def _readable(
    items: Iterable[Item], load: Callable[[Item], InputImage], limit: int | None, progress: Progress
) -> Iterator[tuple[Item, InputImage]]:
    """The items that can be loaded, `limit` at most, spread evenly; those that cannot are noted."""
    count = 0
    for item in _evenly_first(items, limit):
        if count == limit:
            break
        try:
            image = load(item)
        except ImageError as error:
            progress.note(on_one_line(str(error)))
            continue
        count += 1
        yield item, image


def _evenly_first(items: Iterable[Item], limit: int | None) -> list[Item]:
    """All items; of more than `limit`, as many spread evenly first, then the others to replace them."""
    every = list(items)
    if limit is None or len(every) <= limit:
        return every
    first = dict.fromkeys(np.linspace(0, len(every) - 1, limit).round().astype(int).tolist())
    return [every[i] for i in (*first, *(i for i in range(len(every)) if i not in first))]
