"""Running a bundle over labelled cases.

`stream` gives one scored image after the other while threads decode ahead, so that a split of any size passes
through a few batches of memory; `score_cases` collects what it gives. Threads, not processes: Pillow inflates and
resizes without holding the interpreter's lock, so on two cores both take the same time (16 ms an image of 1024 px,
21 ms without them), and threads serve arrays as well as files.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from xrt.runtime.backends import Outputs
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import DataError, ImageError, UsageError
from xrt.runtime.opening import OpenedSession
from xrt.runtime.preprocessing import Placement, preprocess

Progress = Callable[[int, int], None]
_PREVIEW_SIDE = 384, 512  # pixels, least and most; screening draws on 512


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


@dataclass(frozen=True)
class Decoded:
    """One image as it is scored: the graph's input, its placement, and the stored image's (height, width).

    `preview` is the whole stored image, long side 384 to 512 pixels, to draw on.
    """

    index: int
    input: UInt8[np.ndarray, "height width"]
    placement: Placement
    size: tuple[int, int]
    preview: UInt8[np.ndarray, "preview_h preview_w"] = field(repr=False)


@dataclass(frozen=True)
class ScoredImage(Decoded):
    """What the bundle says about case `index` of the table.

    `cams` holds the raw maps [maps, h, w] by output name, without entries where no maps were asked for; `explained`
    says which logit each of them speaks for.
    """

    logits: Float32[np.ndarray, " logits"]
    probability: Float[np.ndarray, " logits"]
    cams: Mapping[str, Float32[np.ndarray, "maps h w"]]
    explained: tuple[int, ...]

    def cam(self, logit: int, output: str) -> Float32[np.ndarray, "h w"] | None:
        """The map of a logit; None where the graph did not explain it (it is not among the image's top K)."""
        return self.cams[output][self.explained.index(logit)] if logit in self.explained else None


def require_fit(bundle: Bundle, table: CaseTable) -> None:
    """Raise DataError unless the table's classes are those of the bundle, in the same order."""
    expected = tuple(c.name for c in bundle.manifest.logit_classes)
    if table.logit_classes != expected:
        raise DataError(
            f"{table.name} has the classes {', '.join(table.logit_classes)}; the bundle has {', '.join(expected)}"
        )


def stream(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = True,
    batch_size: int = 16,
    allow_unscored: float = 0.0,
    unscored: list[Unscored] | None = None,
    progress: Progress = lambda done, total: None,
) -> Iterator[ScoredImage]:
    """Score the cases in order, preprocessed as screening does it; at most four batches are held.

    Cases whose image cannot be read, or for which the model gives NaN or infinity, are appended to `unscored`.
    Raises DataError as soon as they are more than the share `allow_unscored` (0..1) of the table.
    """
    require_fit(bundle, table)
    if batch_size < 1:
        raise UsageError(f"the batch size must be 1 or more, not {batch_size}")
    left_out = unscored if unscored is not None else []

    def leave_out(index: int, reason: str) -> None:
        left_out.append(Unscored(index, table.cases[index].key, reason))
        if len(left_out) > allow_unscored * len(table):
            raise DataError(
                f"{table.name}: {len(left_out)} of {len(table)} images cannot be scored (the last: {left_out[-1].key}:"
                f" {reason}), and {allow_unscored:.0%} may be; restore them or remove their rows"
            )

    # With the batch that is inferred and the one being filled, four batches in all.
    for batch in _batches(_decode_ahead(bundle, table, 2 * batch_size), batch_size, leave_out):
        outputs = opened.session.infer(np.stack([image.input for image in batch])[:, None], cams=maps)
        for row, image in enumerate(batch):
            if all(np.isfinite(values[row]).all() for values in (outputs.logits, *outputs.cams.values())):
                yield _scored(image, outputs, row, bundle.manifest)
            else:
                leave_out(image.index, "the model gave NaN or infinity for it")
        progress(batch[-1].index + 1, len(table))


def score_cases(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    *,
    maps: bool = False,
    batch_size: int = 16,
    allow_unscored: float = 0.0,
    progress: Progress = lambda done, total: None,
) -> Scores:
    """Score every case, and keep the maps of the first CAM output if asked for.

    What cannot be scored is listed, and left out of the scores' table. Raises DataError when that is more than the
    share `allow_unscored` (0..1) of the cases.
    """
    manifest = bundle.manifest
    cam = manifest.graph.cams[0]
    every = np.empty((len(table), len(manifest.logit_classes)), np.float32)
    shape = (len(table), manifest.graph.top_k or len(manifest.graph.explained or ()), cam.height, cam.width)
    cams = np.empty(shape, np.float32) if maps else None
    scored, placements, sizes, unscored = [], [], [], []
    for image in stream(
        bundle,
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
        scored.append(image.index)
        placements.append(image.placement)
        sizes.append(image.size)
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


def _scored(image: Decoded, outputs: Outputs, row: int, manifest: Manifest) -> ScoredImage:
    explained = manifest.graph.explained if outputs.cam_classes is None else outputs.cam_classes[row]
    return ScoredImage(
        **vars(image),
        logits=outputs.logits[row],
        probability=probabilities(outputs.logits[row : row + 1], manifest)[0],
        cams={name: cams[row] for name, cams in outputs.cams.items()},
        explained=tuple(int(logit) for logit in (() if explained is None else explained)),
    )


def _batches(
    images: Iterator[Decoded | tuple[int, str]], size: int, leave_out: Callable[[int, str], None]
) -> Iterator[list[Decoded]]:
    """Full batches of what could be decoded, and the rest."""
    batch: list[Decoded] = []
    for image in images:
        if isinstance(image, Decoded):
            batch.append(image)
        else:
            leave_out(*image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _decode_ahead(bundle: Bundle, table: CaseTable, ahead: int) -> Iterator[Decoded | tuple[int, str]]:
    """Every case in order, decoded by threads; (index, reason) in place of one that cannot be read."""
    spec = bundle.manifest.preprocessing

    def decode(index: int) -> Decoded | tuple[int, str]:
        try:
            pixels = table.images.read(table.cases[index].key, spec.unwindowed)
        except ImageError as error:
            return index, str(error)
        image, placement = preprocess(pixels, spec)
        height, width = pixels.shape
        return Decoded(index, image, placement, (height, width), _preview(pixels))

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        indices = iter(range(len(table)))
        waiting = deque(pool.submit(decode, index) for index in islice(indices, ahead))
        try:
            while waiting:
                image = waiting.popleft().result()
                waiting.extend(pool.submit(decode, index) for index in islice(indices, 1))
                yield image
        finally:
            for future in waiting:
                future.cancel()


def _preview(pixels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "preview_h preview_w"]:
    height, width = pixels.shape
    # Small images are enlarged, or a box drawn on 28 pixels would hide what it frames.
    factor = float(np.clip(max(height, width), *_PREVIEW_SIDE)) / max(height, width)
    if factor == 1:
        return pixels
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))
