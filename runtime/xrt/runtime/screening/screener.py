"""The screener: a bundle opened on a back end, and a pool that decodes while it infers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from xrt.runtime.backends import SessionOptions
from xrt.runtime.bundle.manifest import ContentCheck, Reaction
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.decisions import excess, positives
from xrt.runtime.device import usable_cores
from xrt.runtime.errors import NotAChestRadiograph, UsageError
from xrt.runtime.heatmaps import box_of_map
from xrt.runtime.imaging.content_check import react
from xrt.runtime.imaging.load import LoadOptions, SkippedImage
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.imaging.radiograph import DecodeLimits
from xrt.runtime.scoring import ScoredImage, Scorer
from xrt.runtime.screening.pipeline import Pipeline
from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.session import OpenedSession, open_session

Key = TypeVar("Key")
Output = TypeVar("Output")
_MOST_STREAMS = 4
"""Free: more of them take more memory, and gain less than they do on few cores."""


@dataclass(frozen=True)
class ScreeningOptions:
    """How radiographs are scored.

    `workers` are decoding processes (None: one per core, at most 8; 0: this process, without time and memory limits),
    `threads` those of the back end (0: every core), `streams` how many batches it runs at a time (None: one per core,
    at most 4). `skip_body_part_check` scores DICOM files whose header says that they are no frontal chest radiograph,
    and leaves out the checks of the picture; `content_checks` says what each of those does. Raises UsageError for a
    batch size or number of workers out of range.
    """

    batch_size: int = 8
    workers: int | None = None
    threads: int = 0
    skip_body_part_check: bool = False
    limits: DecodeLimits = DecodeLimits()
    content_checks: Mapping[ContentCheck, Reaction] = field(default_factory=dict)
    streams: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.batch_size < 1:
            raise UsageError(f"batch_size must be 1 or more, not {self.batch_size}")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers must be 0 or more, not {self.workers}")


class Screener:
    """Scores radiographs with a bundle. Use it as a context manager:

        with Screener(Bundle.open("chest.xrt")) as screener:
            for result in screener.screen(paths):
                print(result.key, result.status, [f.class_name for f in result.findings if f.positive])

    Opening raises what `open_session` raises; then nothing is scored. Decoding runs in spawned processes, so a
    script needs `if __name__ == "__main__":`, or `ScreeningOptions(workers=0)`.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        require_radiographs: bool = False,
        options: ScreeningOptions = ScreeningOptions(),
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        self.options = options
        self._checks: dict[ContentCheck, Reaction] = {**self.bundle.manifest.content_checks, **options.content_checks}
        self._backend, self._precision, self._require_radiographs = backend, precision, require_radiographs
        load = LoadOptions(
            self.bundle.manifest.preprocessing, options.skip_body_part_check, options.limits, self._checks
        )
        self._pool = DecodingPool(load, options.workers)
        self._stack = ExitStack()
        self._scorer: Scorer | None = None

    def __enter__(self) -> Screener:
        threads, streams = self.options.threads, self.options.streams
        streams = min(_MOST_STREAMS, threads or usable_cores()) if streams is None else streams
        with ExitStack() as stack:
            # Processes start while the graph is compiled.
            stack.enter_context(self._pool)
            opened = open_session(
                self.bundle,
                backend=self._backend,
                precision=self._precision,
                options=SessionOptions(threads, streams),
                require_radiographs=self._require_radiographs,
            )
            stack.enter_context(opened)
            self._scorer = stack.enter_context(Scorer(opened, self.options.batch_size))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scorer = None
        self._stack.__exit__(kind, error, trace)

    @property
    def opened(self) -> OpenedSession:
        """The session in use. Raises RuntimeError outside the `with` block."""
        return self._require_scorer().opened

    def screen(self, paths: Iterable[str | Path]) -> Iterator[Result[Path]]:
        """Score files; results come in their order, each as soon as its batch is done."""
        return self.screen_files((Path(path), Path(path), "") for path in paths)

    def screen_files(
        self, files: Iterable[tuple[Key, Path, str] | None], *, preview: bool = True
    ) -> Iterator[Result[Key]]:
        """Score (key, path, known SHA-256 or "") triples; one whose content is known comes back `unchanged`.

        Results keep the files' order. Memory is bounded, whatever the number of files. Where `files` yields None it
        has nothing more for now. Without `preview` results have none.
        """
        for key, image in Pipeline(files, self._pool, self._require_scorer(), preview=preview):
            if isinstance(image, SkippedImage):
                yield Result(key, image.status, image.reason, image.sha256)
            else:
                try:
                    notes = self._unlike_training(image.loaded.input)
                except NotAChestRadiograph as error:
                    yield Result(key, "rejected", str(error), image.loaded.sha256)
                else:
                    yield self._result(key, image, notes)

    def in_background(self, function: Callable[..., Output], *args: object) -> Future[Output]:
        """Run a function of a module in one of the processes that decode."""
        return self._pool.submit(function, *args)

    def _require_scorer(self) -> Scorer:
        if self._scorer is None:
            raise RuntimeError("a Screener is used inside its `with` block")
        return self._scorer

    def _result(self, key: Key, image: ScoredImage[Key], notes: tuple[str, ...]) -> Result[Key]:
        loaded = image.loaded
        output = self.bundle.manifest.graph.cams[0].output
        maps = {
            self.bundle.manifest.map_class(c): cam for c, cam in zip(image.explained, image.cams[output], strict=True)
        }
        return Result(
            key=key,
            status="ok",
            sha256=loaded.sha256,
            notes=loaded.notes + notes,
            width=loaded.width,
            height=loaded.height,
            input_size=loaded.input_size,
            view=loaded.view,
            study_uid=loaded.study_uid,
            sop_instance_uid=loaded.sop_instance_uid,
            patient_digest=loaded.patient_digest,
            findings=tuple(self._findings(image, maps)),
            maps=maps,
            preview=loaded.preview,
            placement=loaded.placement,
            orientation=loaded.orientation,
        )

    def _findings(self, image: ScoredImage[Key], maps: dict[str, np.ndarray]) -> Iterator[Finding]:
        """Every class with a logit; positives with the box of their map, where they have one."""
        manifest, loaded = self.bundle.manifest, image.loaded
        probability = image.probability[None]
        positive, over = positives(probability, manifest)[0], excess(probability, manifest)[0]
        for c, spec in enumerate(manifest.logit_classes):
            weighted = spec.urgency * over[c] if over[c] > 0 else over[c]
            cam = maps.get(spec.name) if positive[c] else None
            box = None if cam is None else box_of_map(cam, loaded.placement, loaded.input_size, loaded.size)
            yield Finding(
                class_name=spec.name,
                logit=float(image.logits[c]),
                probability=float(image.probability[c]),
                threshold=None if manifest.task == "multiclass" else spec.threshold,
                positive=bool(positive[c]),
                excess=float(over[c]),
                urgency=float(weighted) if spec.urgency > 0 else None,
                box=None if box is None else loaded.orientation.to_stored(box, loaded.size),
            )

    def _unlike_training(self, image: np.ndarray) -> tuple[str, ...]:
        """A note when the input's mean or deviation lies outside the range of the training images.

        Raises NotAChestRadiograph where the check rejects.
        """
        statistics = self.bundle.manifest.input_statistics
        if statistics is None or self.options.skip_body_part_check:
            return ()
        (low, high), (least, most) = statistics.mean, statistics.std
        inside = low <= image.mean() <= high and least <= image.std() <= most
        note = "" if inside else react("statistics", "brightness or contrast unlike the training images", self._checks)
        return (note,) if note else ()
