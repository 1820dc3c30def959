"""One scorer for screening and for measuring: loaded images go through a session in full batches, in order.

`Scorer` takes images as they are loaded: by a pool of processes for files (`xrt.runtime.imaging.pool`), by threads
for the cases of a labelled data set (`stream_cases`, `score_cases`). Threads serve arrays as well as files, and
Pillow inflates and resizes without holding the interpreter's lock; processes can be killed when a decoder hangs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float, Float32

from xrt.runtime.datasets import CaseTable
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import DataError, ImageError, UsageError
from xrt.runtime.geometry import Placement
from xrt.runtime.imaging.load import LoadedImage, SkippedImage, preview_of
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.preprocessing import preprocess
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.session import OpenedSession

Key = TypeVar("Key")
_MOST_PENDING = 8
"""Batches' worth of images without a score after which those before them are scored, though their batch is not full."""
_PREVIEW_LEAST = 384
"""Small images are enlarged for drawing, or a box drawn on 28 pixels would hide the image under it."""


@dataclass(frozen=True)
class ScoredImage(Generic[Key]):
    """What a bundle says about one image.

    `cams` holds the raw maps [maps, h, w] by output name, and has no entries where no maps were asked for; `explained`
    says which logit each of them explains.
    """

    key: Key
    loaded: LoadedImage
    logits: Float32[np.ndarray, " logits"]
    probability: Float[np.ndarray, " logits"]
    cams: Mapping[str, Float32[np.ndarray, "maps h w"]] = field(repr=False)
    explained: tuple[int, ...]

    def cam(self, logit: int, output: str) -> Float32[np.ndarray, "h w"] | None:
        """The map of a logit; None where the graph did not explain it (it is not among the image's top K)."""
        return self.cams[output][self.explained.index(logit)] if logit in self.explained else None


@dataclass(frozen=True)
class _Group(Generic[Key]):
    """Images in their order, and the batch that is made of those that could be loaded."""

    images: list[tuple[Key, LoadedImage | SkippedImage]]
    batch: Future[list[tuple[Key, ScoredImage[Key] | SkippedImage]]] | None

    def results(self) -> Iterator[tuple[Key, ScoredImage[Key] | SkippedImage]]:
        scored = iter(self.batch.result() if self.batch is not None else ())
        for key, image in self.images:
            yield (key, image) if isinstance(image, SkippedImage) else next(scored)


class Scorer:
    """Runs images through an opened session, as many batches at a time as it has streams. A context manager.

    Raises UsageError for a batch size under 1.
    """

    def __init__(self, opened: OpenedSession, batch_size: int) -> None:
        if batch_size < 1:
            raise UsageError(f"the batch size must be 1 or more, not {batch_size}")
        self.opened = opened
        self.batch_size = batch_size
        self.streams = opened.session.streams
        self._executor = ThreadPoolExecutor(self.streams, thread_name_prefix="infer")

    def __enter__(self) -> Scorer:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(cancel_futures=True)

    def submit(
        self, batch: Sequence[tuple[Key, LoadedImage]], *, cams: bool = True
    ) -> Future[list[tuple[Key, ScoredImage[Key] | SkippedImage]]]:
        """Score a batch of one image or more when a stream is free; an image with NaN or infinity is `failed`."""
        return self._executor.submit(self._infer, batch, cams)

    def score(
        self, images: Iterable[tuple[Key, LoadedImage | SkippedImage]], *, cams: bool = True
    ) -> Iterator[tuple[Key, ScoredImage[Key] | SkippedImage]]:
        """Score what was loaded and yield what was skipped, in order; an image with NaN or infinity is `failed`."""
        pending: list[tuple[Key, LoadedImage | SkippedImage]] = []
        running: deque[_Group[Key]] = deque()
        count = 0
        for key, image in images:
            pending.append((key, image))
            count += isinstance(image, LoadedImage)
            if count == self.batch_size or len(pending) >= _MOST_PENDING * self.batch_size:
                running.append(self._group(pending, cams))
                pending, count = [], 0
                if len(running) > self.streams:
                    yield from running.popleft().results()
        running.append(self._group(pending, cams))
        for group in running:
            yield from group.results()

    def _group(self, pending: list[tuple[Key, LoadedImage | SkippedImage]], cams: bool) -> _Group[Key]:
        batch = [(key, image) for key, image in pending if isinstance(image, LoadedImage)]
        return _Group(pending, self.submit(batch, cams=cams) if batch else None)

    def _infer(
        self, batch: Sequence[tuple[Key, LoadedImage]], cams: bool
    ) -> list[tuple[Key, ScoredImage[Key] | SkippedImage]]:
        outputs = self.opened.session.infer(np.stack([image.input for _, image in batch])[:, None], cams=cams)
        probability, finite = probabilities(outputs.logits, self.opened.manifest), outputs.finite
        results: list[tuple[Key, ScoredImage[Key] | SkippedImage]] = []
        for row, (key, image) in enumerate(batch):
            if finite[row]:
                results.append((key, self._scored(key, image, outputs, row, probability[row])))
            else:
                reason = "the model gave NaN or infinity for this image"
                results.append((key, SkippedImage("failed", reason, image.sha256)))
        return results

    def _scored(
        self,
        key: Key,
        image: LoadedImage,
        outputs: ModelOutputs,
        row: int,
        probability: Float[np.ndarray, " logits"],
    ) -> ScoredImage[Key]:
        classes = self.opened.manifest.graph.explained if outputs.cam_classes is None else outputs.cam_classes[row]
        return ScoredImage(
            key=key,
            loaded=image,
            logits=outputs.logits[row],
            probability=probability,
            cams={name: maps[row] for name, maps in outputs.cams.items()},
            explained=tuple(int(logit) for logit in (() if classes is None else classes)),
        )


@dataclass(frozen=True)
class Unscored:
    """A case that has no score, and why."""

    index: int
    key: str
    reason: str


@dataclass(frozen=True)
class Scores:
    """What a bundle says about the cases of a table: calibrated probabilities, and the maps if asked for.

    `placements` and `sizes` (height, width of the stored image) tie the maps to the images. `unscored` are the cases
    that the table had besides.
    """

    table: CaseTable
    logits: Float32[np.ndarray, "n logits"]
    probability: Float[np.ndarray, "n logits"]
    cams: Float32[np.ndarray, "n maps h w"] | None
    placements: tuple[Placement, ...]
    sizes: tuple[tuple[int, int], ...]
    unscored: tuple[Unscored, ...] = ()


def require_classes(opened: OpenedSession, table: CaseTable) -> None:
    """Raise DataError unless the table's classes are those of the bundle, in the same order."""
    expected = tuple(c.name for c in opened.manifest.logit_classes)
    if table.logit_classes != expected:
        raise DataError(
            f"{table.name} has the classes {', '.join(table.logit_classes)}; the bundle has {', '.join(expected)}"
        )


def stream_cases(
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = True,
    batch_size: int = 16,
    allow_unscored: float = 0.0,
    unscored: list[Unscored] | None = None,
    progress: Progress = SILENT,
) -> Iterator[ScoredImage[int]]:
    """Score the cases in order, each under its index, preprocessed as screening does it; a few batches are held.

    Cases whose image cannot be read, or for which the model gives NaN or infinity, are appended to `unscored`.
    Raises DataError as soon as they are more than the fraction `allow_unscored` (0..1) of the table.
    """
    require_classes(opened, table)
    left_out = unscored if unscored is not None else []
    with Scorer(opened, batch_size) as scorer:
        # With those that are inferred and the one being filled, a few batches in all.
        for index, image in scorer.score(_load_ahead(opened, table, 2 * batch_size), cams=maps):
            if isinstance(image, SkippedImage):
                left_out.append(Unscored(index, table.cases[index].key, image.reason))
                if len(left_out) > allow_unscored * len(table):
                    last = left_out[-1]
                    raise DataError(
                        f"{table.name}: {len(left_out)} of {len(table)} images cannot be scored (the last: {last.key}:"
                        f" {last.reason}), and {allow_unscored:.0%} may be; restore them or remove their rows"
                    )
            else:
                yield image
            if (index + 1) % batch_size == 0 or index + 1 == len(table):
                progress.count(index + 1, len(table), "scoring")


def score_cases(
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = False,
    batch_size: int = 16,
    allow_unscored: float = 0.0,
    progress: Progress = SILENT,
) -> Scores:
    """Score every case, and keep the maps of the first CAM output if asked for.

    What cannot be scored is listed, and left out of the scores' table. Raises DataError when that is more than the
    fraction `allow_unscored` (0..1) of the cases.
    """
    manifest = opened.manifest
    cam = manifest.graph.cams[0]
    every = np.empty((len(table), len(manifest.logit_classes)), np.float32)
    cams = np.empty((len(table), manifest.interface.maps, cam.height, cam.width), np.float32) if maps else None
    scored: list[int] = []
    placements: list[Placement] = []
    sizes: list[tuple[int, int]] = []
    unscored: list[Unscored] = []
    for image in stream_cases(
        opened,
        table,
        maps=maps,
        batch_size=batch_size,
        allow_unscored=allow_unscored,
        unscored=unscored,
        progress=progress,
    ):
        every[len(scored)] = image.logits
        if cams is not None:
            cams[len(scored)] = image.cams[cam.output]
        scored.append(image.key)
        placements.append(image.loaded.placement)
        sizes.append(image.loaded.size)
    logits = every[: len(scored)]
    return Scores(
        table=table.subset(scored),
        logits=logits,
        probability=probabilities(logits, manifest),
        cams=None if cams is None else cams[: len(scored)],
        placements=tuple(placements),
        sizes=tuple(sizes),
        unscored=tuple(unscored),
    )


def _load_ahead(
    opened: OpenedSession, table: CaseTable, ahead: int
) -> Iterator[tuple[int, LoadedImage | SkippedImage]]:
    """Every case in order, decoded by threads."""
    spec = opened.manifest.preprocessing

    def load(index: int) -> tuple[int, LoadedImage | SkippedImage]:
        try:
            pixels = table.images.read(table.cases[index].key, spec.without_window)
        except ImageError as error:
            return index, SkippedImage("failed", str(error))
        image, placement = preprocess(pixels, spec)
        height, width = pixels.shape
        return index, LoadedImage("", image, placement, preview_of(pixels, least=_PREVIEW_LEAST), width, height)

    return _in_threads(load, range(len(table)), ahead)


Item = TypeVar("Item")
Output = TypeVar("Output")


def _in_threads(function: Callable[[Item], Output], items: Iterable[Item], ahead: int) -> Iterator[Output]:
    """The results in order; at most `ahead` are being made or wait."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="load") as pool:
        remaining = iter(items)
        futures: deque[Future[Output]] = deque(pool.submit(function, item) for item in islice(remaining, ahead))
        try:
            while futures:
                result = futures.popleft().result()
                futures.extend(pool.submit(function, item) for item in islice(remaining, 1))
                yield result
        finally:
            for future in futures:
                future.cancel()
