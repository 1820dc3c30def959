"""A pool of decoding processes: a decoder that hangs, crashes or takes too much memory is killed and replaced."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, TimeoutError
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast

from pebble import ProcessExpired, ProcessPool

from xrt.runtime.errors import XrtError
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, SkippedImage, load_radiograph

Key = TypeVar("Key")


class DecodingPool:
    """Loads files in parallel, in order, with a bounded number in flight. Use it as a context manager.

    Processes are spawned, not forked, since the parent has threads; a script that uses this class needs the usual
    `if __name__ == "__main__":`. With `workers` = 0 files are loaded in this process, without time and memory
    limits.
    """

    def __init__(self, options: LoadOptions, workers: int | None = None) -> None:
        self._options = options
        self.workers = default_workers() if workers is None else workers
        self._pool: ProcessPool | None = None

    def __enter__(self) -> DecodingPool:
        if self.workers:
            self._pool = ProcessPool(
                max_workers=self.workers,
                initializer=_limit_this_process,
                initargs=(self._options.limits.memory_bytes,),
                context=cast(Any, multiprocessing.get_context("spawn")),  # pebble's declaration is too narrow
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None

    def map(
        self, files: Iterable[tuple[Key, Path, str]], *, in_flight: int = 32
    ) -> Iterator[tuple[Key, LoadedImage | SkippedImage]]:
        """Load (key, path, known SHA-256 or "") triples; results keep their order. At most `in_flight` are held."""
        if not self.workers:
            for key, path, known in files:
                yield key, load_radiograph(path, self._options, known)
            return
        futures: deque[tuple[Key, Future]] = deque()
        timeout = self._options.limits.seconds
        for key, path, known in files:
            if self._pool is None:
                raise XrtError("the decoding pool is closed: read results inside its `with` block")
            future = self._pool.schedule(load_radiograph, args=(path, self._options, known), timeout=timeout)
            futures.append((key, future))
            if len(futures) >= in_flight:
                yield self._next(futures)
        while futures:
            yield self._next(futures)

    def _next(self, futures: deque[tuple[Key, Future]]) -> tuple[Key, LoadedImage | SkippedImage]:
        key, future = futures.popleft()
        try:
            return key, future.result()
        except TimeoutError:
            return key, SkippedImage("failed", f"decoding took over {self._options.limits.seconds:g} s")
        except (ProcessExpired, MemoryError) as error:
            return key, SkippedImage("failed", f"the decoder crashed or ran out of memory ({type(error).__name__})")
        except CancelledError:
            raise XrtError("the decoding pool was closed while results were still being read") from None
        except BrokenExecutor as error:
            raise XrtError(f"the decoding processes cannot be started ({error}): try --workers 0") from error


def default_workers() -> int:
    """One process per core that this process may use, at most eight."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores))


def _limit_this_process(memory_bytes: int) -> None:
    # Ctrl-C is handled by the parent: it finishes the batch in flight and stops the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Parallelism comes from processes; more threads of numerical libraries inside them would be slower.
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
