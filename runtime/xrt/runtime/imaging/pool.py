"""Files loaded in parallel, by child processes with limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from xrt.runtime.errors import XrtError
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, SkippedImage, load_radiograph
from xrt.runtime.imaging.workers import WorkerDied, WorkerPool, WorkerTooSlow, default_workers

Key = TypeVar("Key")
Output = TypeVar("Output")


class DecodingPool:
    """Loads files in parallel with a bounded number in flight. Use it as a context manager.

    With `workers` = 0 files are loaded in this process, without time and memory limits.
    """

    def __init__(self, options: LoadOptions, workers: int | None = None) -> None:
        self._options = options
        wanted = default_workers() if workers is None else workers
        limits = options.limits
        self._pool = WorkerPool(wanted, seconds=limits.seconds, memory_bytes=limits.memory_bytes) if wanted else None
        self.workers = 0 if self._pool is None else self._pool.workers

    def __enter__(self) -> DecodingPool:
        if self._pool is not None:
            self._pool.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.__exit__(kind, error, trace)

    def load(self, path: Path, known_sha256: str = "", *, preview: bool = True) -> Future[LoadedImage | SkippedImage]:
        """Load one file; `result_of` says what became of it."""
        return self.submit(load_radiograph, path, self._options, known_sha256, preview)

    def submit(self, function: Callable[..., Output], *args: Any) -> Future[Output]:
        """Run a function of a module in a process of the pool, or here where it has none."""
        if self._pool is not None:
            return self._pool.submit(function, *args)
        future: Future[Output] = Future()
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)
        return future

    def result_of(self, future: Future[LoadedImage | SkippedImage]) -> LoadedImage | SkippedImage:
        """What became of a file: what hung or crashed is `failed`. Raises XrtError when the pool was closed."""
        outcome = self.outcome_of(future)
        return SkippedImage("failed", outcome) if isinstance(outcome, str) else outcome

    def outcome_of(self, future: Future[Output]) -> Output | str:
        """What a function gave, or in words which limit it ran into. Raises what it raised, and XrtError."""
        if future.cancelled():
            raise XrtError("the decoding pool was closed while results were still being read")
        try:
            return future.result()
        except WorkerTooSlow:
            return f"decoding took over {self._options.limits.seconds:g} s"
        except (WorkerDied, MemoryError):
            return "the decoder crashed or ran out of memory"

    def map(
        self, files: Iterable[tuple[Key, Path, str]], *, in_flight: int = 32
    ) -> Iterator[tuple[Key, LoadedImage | SkippedImage]]:
        """Load (key, path, known SHA-256 or "") triples; results keep their order. At most `in_flight` are held."""
        futures: deque[tuple[Key, Future[LoadedImage | SkippedImage]]] = deque()
        for key, path, known in files:
            futures.append((key, self.load(path, known)))
            if len(futures) >= (in_flight if self.workers else 1):
                yield self._next(futures)
        while futures:
            yield self._next(futures)

    def _next(self, futures: deque[tuple[Key, Future[Any]]]) -> tuple[Key, LoadedImage | SkippedImage]:
        key, future = futures.popleft()
        with suppress(BaseException):
            future.exception()  # waits
        return key, self.result_of(future)
