"""From files to scores: loading, inference and what comes after them overlap, and results keep the files' order.

Images are put into batches as they are loaded, from whatever file comes next, so that a slow file delays nothing but
its own result. What is in flight is bounded at every stage. A batch that is not full is run when nothing else could
fill it soon: the first image, the last ones, and those before a pause.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from xrt.runtime.imaging.load import LoadedImage, SkippedImage
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.scoring import ScoredImage, Scorer

Key = TypeVar("Key")
_PAUSE = 0.2
"""Seconds without an event after which a batch that is not full is run."""
_FILES_AHEAD, _BATCHES_AHEAD = 64, 4
"""Files, and batches for each stream, whose results are not taken yet."""


@dataclass(eq=False)
class _Entry(Generic[Key]):
    """One file on its way."""

    key: Key
    loading: Future[LoadedImage | SkippedImage]
    image: LoadedImage | None = None
    outcome: ScoredImage[Key] | SkippedImage | None = None


class Pipeline(Generic[Key]):
    """The files of one run on their way through a pool and a scorer. Iterate over it once."""

    def __init__(
        self,
        files: Iterable[tuple[Key, Path, str] | None],
        pool: DecodingPool,
        scorer: Scorer,
        *,
        cams: bool = True,
        preview: bool = True,
    ) -> None:
        self._files = iter(files)
        self._pool, self._scorer, self._cams, self._preview = pool, scorer, cams, preview
        self._most = max(_FILES_AHEAD, _BATCHES_AHEAD * scorer.streams * scorer.batch_size)
        self._ahead = 2 * max(pool.workers, 1) + 2 * scorer.batch_size
        self._window: deque[_Entry[Key]] = deque()
        self._ready: deque[_Entry[Key]] = deque()
        self._events: SimpleQueue[tuple[list[_Entry[Key]], Future[Any]]] = SimpleQueue()
        self._loading = self._running = 0
        self._exhausted = self._started = False

    def __iter__(self) -> Iterator[tuple[Key, ScoredImage[Key] | SkippedImage]]:
        """(key, outcome) in the order of the files. Where `files` yields None, it has nothing more for now."""
        while True:
            self._load_more()
            self._start_batches()
            while self._window and (outcome := self._window[0].outcome) is not None:
                yield self._window.popleft().key, outcome
                self._take_events(0)
                self._start_batches()
            if self._exhausted and not self._window:
                return
            if not self._take_events(_PAUSE if self._loading or self._running else 0):
                self._start_batches(flush=True)

    def _load_more(self) -> None:
        """Hand files to the pool, as far as there is room for what comes of them."""
        while not self._exhausted and len(self._window) < self._most:
            if self._loading + len(self._ready) >= self._ahead:
                return
            try:
                file = next(self._files)
            except StopIteration:
                self._exhausted = True
                return
            if file is None:
                return
            key, path, known = file
            entry = _Entry(key, self._pool.load(path, known, preview=self._preview))
            self._window.append(entry)
            self._loading += 1
            entry.loading.add_done_callback(lambda future, entry=entry: self._events.put(([entry], future)))
            if not self._pool.workers:
                self._take_events(0)
                self._start_batches()

    def _start_batches(self, *, flush: bool = False) -> None:
        """Run what is loaded: full batches, and one that is not full where waiting would gain nothing."""
        size, streams = self._scorer.batch_size, self._scorer.streams
        while self._ready and self._running < 2 * streams:
            is_last = self._exhausted and not self._loading
            alone = flush or is_last or not self._started
            if len(self._ready) < size and not (alone and self._running < streams):
                return
            batch = [self._ready.popleft() for _ in range(min(size, len(self._ready)))]
            images = [(entry.key, entry.image) for entry in batch if entry.image is not None]
            self._started = True
            self._running += 1
            future = self._scorer.submit(images, cams=self._cams)
            future.add_done_callback(lambda future, batch=batch: self._events.put((batch, future)))

    def _take_events(self, wait: float) -> bool:
        """Note what has ended; wait for the first. Whether there was anything."""
        any_event = False
        while True:
            try:
                entries, future = self._events.get(timeout=wait) if wait else self._events.get_nowait()
            except Empty:
                return any_event
            any_event, wait = True, 0
            if entries[0].loading is future:
                self._note_loaded(entries[0])
            else:
                self._running -= 1
                for entry, (_, outcome) in zip(entries, future.result(), strict=True):
                    entry.outcome, entry.image = outcome, None

    def _note_loaded(self, entry: _Entry[Key]) -> None:
        self._loading -= 1
        image = self._pool.result_of(entry.loading)
        if isinstance(image, SkippedImage):
            entry.outcome = image
        else:
            entry.image = image
            self._ready.append(entry)
