"""Child processes that decode and draw: one that hangs, crashes or takes too much memory is killed and replaced.

A thread of this process serves each of them: it hands over a task, waits for its result with a time limit, and starts
another process where the first is gone. A task whose process died is tried once more, since the system kills the
largest process, which may be the wrong one.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from xrt.runtime.device import available_memory, usable_cores
from xrt.runtime.errors import XrtError

Output = TypeVar("Output")
log = logging.getLogger(__name__)

_STARTS = 5
"""How often a process is started, one after the other, before the pool gives up."""
_LEAST_MEMORY = 3 * 2**29
_MEMORY_SHARE = 0.8
"""Of the memory that the machine has free, all processes together may take this much; each needs 1.5 GiB to decode
what the limits on pixels allow."""
_LEAST_LIMIT = 2**30
"""Under this a process cannot even load its libraries: where there is less, what is large fails, and not everything."""
_STARTING_SECONDS = 120.0


class WorkerDied(Exception):
    """The process of a task ended, twice, without a result."""


class WorkerTooSlow(Exception):
    """A task took longer than its limit."""


class WorkerPool:
    """Processes that run functions of modules. Use it as a context manager.

    Processes are spawned, not forked, since the parent has threads; a script that uses this class needs the usual
    `if __name__ == "__main__":`. `memory_bytes` is the limit of each process, lowered where the machine has less.
    """

    def __init__(self, workers: int, *, seconds: float, memory_bytes: int) -> None:
        self.workers = within_memory(workers)
        self._seconds = seconds
        share = int(available_memory() * _MEMORY_SHARE / self.workers)
        self._memory = min(memory_bytes, max(share, _LEAST_LIMIT))
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._servers: list[_Server] = []
        self._closed = False

    def __enter__(self) -> WorkerPool:
        atexit.register(self._stop)  # processes ignore SIGTERM, by which multiprocessing would end them
        for number in range(self.workers):
            server = _Server(self._tasks, self._seconds, self._memory)
            thread = threading.Thread(target=server.serve, name=f"worker-{number}", daemon=True)
            self._servers.append(server)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop()
        atexit.unregister(self._stop)
        with suppress(queue.Empty):
            while (task := self._tasks.get_nowait()) is not None:
                task.cancel()
        for _thread in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._servers, self._threads = [], []

    def _stop(self) -> None:
        self._closed = True
        for server in self._servers:
            server.stop()

    def submit(self, function: Callable[..., Output], *args: Any) -> Future[Output]:
        """Run `function(*args)` in a process. Raises XrtError when the pool is closed.

        The future raises WorkerTooSlow or WorkerDied where the function ran into a limit, XrtError where no process can
        be started, and what the function raised.
        """
        if self._closed or not self._threads:
            raise XrtError("the decoding pool is closed: read results inside its `with` block")
        task = _Task(function, args)
        self._tasks.put(task)
        return task.future


class _Task:
    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.message = pickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)
        self.future: Future[Any] = Future()

    def cancel(self) -> None:
        """Tell whoever waits that nothing will come."""
        self.future.cancel()
        self.future.set_running_or_notify_cancel()


class _Server:
    """One process after the other, and the thread that hands it tasks."""

    def __init__(self, tasks: queue.SimpleQueue[_Task | None], seconds: float, memory: int) -> None:
        self._tasks, self._seconds, self._memory = tasks, seconds, memory
        self._process: Any = None
        self._connection: Any = None
        self._lock = threading.Lock()
        self._stopping = False

    def serve(self) -> None:
        """Until a None comes: run tasks, and start processes as they are needed."""
        with suppress(XrtError):
            self._start()  # while nothing is asked yet; what goes wrong, goes wrong again with the first task
        while (task := self._tasks.get()) is not None:
            if self._stopping:
                task.cancel()
            elif task.future.set_running_or_notify_cancel():
                try:
                    succeeded, result = self._run(task)
                except BaseException as error:
                    succeeded, result = False, error
                try:
                    (task.future.set_result if succeeded else task.future.set_exception)(result)
                except Exception:  # a callback of the future's owner, who is gone
                    log.exception("a result could not be handed over")
        self._kill()

    def stop(self) -> None:
        """Kill the process, in the middle of its task if need be."""
        self._stopping = True
        self._kill()

    def _run(self, task: _Task) -> tuple[bool, Any]:
        for attempt in (1, 2):
            if self._process is None:
                self._start()
            try:
                self._connection.send_bytes(task.message)
                if not self._connection.poll(self._seconds):
                    self._kill()
                    raise WorkerTooSlow
                return pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError, AttributeError):
                self._kill()
                if self._stopping:
                    raise XrtError("the decoding pool was closed while results were still being read") from None
                if attempt == 2:
                    raise WorkerDied from None
                log.warning("a decoding process ended in the middle of a file; the file is tried again")
        raise WorkerDied

    def _start(self) -> None:
        """A process that says that it is ready. Raises XrtError when several in a row do not."""
        context, reason = multiprocessing.get_context("spawn"), ""
        for attempt in range(1, _STARTS + 1):
            if self._stopping:
                raise XrtError("the decoding pool was closed while results were still being read")
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._memory), daemon=True)
            try:
                process.start()
            except OSError as error:
                reason = str(error)
                ours.close()
            else:
                with self._lock:
                    self._process, self._connection = process, ours
                theirs.close()
                try:
                    if ours.poll(_STARTING_SECONDS):
                        ours.recv_bytes()
                        return
                    reason = "it does not answer"
                except (EOFError, OSError):
                    process.join(1)
                    reason = f"it ended with code {process.exitcode}"
                self._kill()
            if self._stopping:
                continue
            log.warning("a decoding process cannot be started (%s), attempt %d of %d", reason, attempt, _STARTS)
            threading.Event().wait(0.1 * 2**attempt)
        raise XrtError(f"the decoding processes cannot be started ({reason}): try --workers 0")

    def _kill(self) -> None:
        with self._lock:
            process, connection, self._process, self._connection = self._process, self._connection, None, None
        if process is not None:
            with suppress(OSError, ValueError):
                process.kill()
            with suppress(OSError, AssertionError):
                process.join(10)
            with suppress(OSError):
                connection.close()


def default_workers() -> int:
    """One process per core that this process may use, at most eight, and as many as the memory allows."""
    return within_memory(min(8, usable_cores()))


def within_memory(workers: int) -> int:
    """As many of `workers` processes as have the memory that decoding takes; one at least."""
    return max(1, min(workers, int(available_memory() * _MEMORY_SHARE / _LEAST_MEMORY)))


def _work(connection: Any, memory: int) -> None:
    """The process: say that it is ready, then run what comes until the other end is closed."""
    # Ctrl-C and termination are handled by the parent: it finishes what is under way and stops the pool.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Parallelism comes from processes; more threads of numerical libraries inside them would be slower.
    os.environ["OMP_NUM_THREADS"] = "1"
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        connection.send_bytes(b"ready")
        while True:
            function, args = pickle.loads(connection.recv_bytes())
            try:
                message = pickle.dumps((True, function(*args)), protocol=pickle.HIGHEST_PROTOCOL)
            except BaseException as error:
                message = _failure(error)
            connection.send_bytes(message)
    except (EOFError, OSError, KeyboardInterrupt):
        return  # the parent is gone, or done


def _failure(error: BaseException) -> bytes:
    try:
        return pickle.dumps((False, error))
    except Exception:  # an error that cannot be sent
        return pickle.dumps((False, XrtError(f"{type(error).__name__} in a decoding process")))
