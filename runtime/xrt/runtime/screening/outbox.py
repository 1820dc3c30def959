"""Events for other programs: each at least once, with a key by which a repeated one is recognised.

An event is written in the transaction of its row, so neither is there without the other. A command gets it as JSON on
its standard input, and its key as the last argument; exit code 0 says that it is taken. What is not taken is tried
again, later and later.
"""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import NamedTuple

from xrt.runtime._io import first_line, sha256_of, utc_now
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.store import ResultsStore

log = logging.getLogger(__name__)
KIND = "positive"
_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds that a command may take, and that are waited after a failure, doubled each time."""


class Event(NamedTuple):
    """What is delivered: its number and key, the JSON text, and how often it was tried."""

    id: int
    key: str
    payload: str
    attempts: int


class _Attempt(NamedTuple):
    event: Event
    error: str


def add_event(store: ResultsStore, root: str, result: Result, path: str, study: str) -> None:
    """Inside the transaction of a row: an event for a result with findings. A row has one event, ever."""
    findings = [
        {"class": f.class_name, "probability": round(f.probability, 6), "box": f.box and list(f.box)}
        for f in result.findings
        if f.positive
    ]
    if not findings:
        return
    key = sha256_of("\0".join((root, path, result.sha256)))[:32]
    event = {"key": key, "path": path, "sha256": result.sha256, "study": study, "findings": findings}
    store.db.execute(
        "INSERT INTO outbox (key, kind, payload, created) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
        (key, KIND, json.dumps(event), utc_now()),
    )


class Outbox:
    """Delivers the events of a store to a command, in a thread; the store itself is used by its own thread alone."""

    def __init__(self, store: ResultsStore, command: Sequence[str]) -> None:
        self._store, self._command = store, tuple(command)
        self._todo: SimpleQueue[Event | None] = SimpleQueue()
        self._tried: SimpleQueue[_Attempt] = SimpleQueue()
        self._under_way: set[int] = set()
        self._not_before: dict[int, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="outbox", daemon=True)

    def __enter__(self) -> Outbox:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()  # what was handed over and not begun stays for the next run
        self._todo.put(None)
        self._thread.join(_SECONDS + 5)
        self.note()

    def send(self) -> int:
        """Hand over what is to be delivered now; return how many events wait or are under way."""
        self.note()
        now = time.monotonic()
        waiting = self._store.db.execute(
            "SELECT id, key, payload, attempts FROM outbox WHERE delivered IS NULL AND kind = ? ORDER BY id", (KIND,)
        ).fetchall()
        for row in waiting:
            event = Event(*row)
            if event.id not in self._under_way and now >= self._not_before.get(event.id, 0.0):
                self._under_way.add(event.id)
                self._todo.put(event)
        return len(waiting)

    def note(self) -> None:
        """Record what has been delivered, or not."""
        attempts = []
        while True:
            try:
                attempts.append(self._tried.get_nowait())
            except Empty:
                break
        if not attempts:
            return
        with self._store.transaction():
            for event, error in attempts:
                self._store.db.execute(
                    "UPDATE outbox SET attempts = attempts + 1, last_error = ?, delivered = ? WHERE id = ?",
                    (error, None if error else utc_now(), event.id),
                )
        for event, error in attempts:
            self._under_way.discard(event.id)
            if error:
                pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**event.attempts)
                self._not_before[event.id] = time.monotonic() + pause

    def finish(self, seconds: float) -> int:
        """Wait for what is not delivered, so many seconds at most; return how many events are left."""
        until = time.monotonic() + seconds
        while (left := self.send()) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def _deliver(self) -> None:
        while (event := self._todo.get()) is not None and not self._stopping.is_set():
            self._tried.put(_Attempt(event, self._run(event)))

    def _run(self, event: Event) -> str:
        """What went wrong, empty where nothing did."""
        try:
            done = subprocess.run(
                [*self._command, event.key], input=event.payload.encode(), capture_output=True, timeout=_SECONDS
            )
        except subprocess.TimeoutExpired:
            error = f"took over {_SECONDS:.0f} s"
        except OSError as failed:
            error = f"cannot be started: {failed.strerror}"
        else:
            said = first_line(done.stderr.decode(errors="replace")) if done.stderr.strip() else ""
            error = f"exit code {done.returncode} {said}".strip() if done.returncode else ""
        if error:
            log.warning("the command for event %s: %s", event.key, error)
        return error
