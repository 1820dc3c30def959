"""One triage run: files are screened, their overlays drawn, their rows committed, worklist and report written."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from xrt.runtime.imaging.workers import WorkerDied, WorkerTooSlow
from xrt.runtime.progress import Progress
from xrt.runtime.screening.grouping import Grouping
from xrt.runtime.screening.health import Health
from xrt.runtime.screening.identity import Identities
from xrt.runtime.screening.listing import FoundFile, Listing
from xrt.runtime.screening.maps import StoredMaps, pack
from xrt.runtime.screening.options import TriageOptions, TriageSummary
from xrt.runtime.screening.outbox import Outbox, add_event
from xrt.runtime.screening.overlays import draw, drawing_job
from xrt.runtime.screening.redaction import Redaction
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.runs import finish_run, note_listed, start_run, unfinished
from xrt.runtime.screening.screener import Screener
from xrt.runtime.screening.store import ResultsStore
from xrt.runtime.screening.watch import Watcher
from xrt.runtime.screening.worklist import write_worklist

log = logging.getLogger(__name__)

_COMMIT_SECONDS, _COMMIT_FILES = 1.0, 256
"""Rows are committed when either is reached: a kill loses at most the last second's work, which is done again."""
_DRAWING = 64
"""Images whose overlays are being drawn, at most."""
_LAST_DELIVERIES = 60.0
"""Seconds for which a run that is done waits for its events to be taken."""
_QUIET, _REPORT_SECONDS = 0.2, 10.0
"""Seconds between two looks at watched folders where nothing happens, and between two reports of them."""
_ASKED = ("SIGTERM", "SIGINT")
"""How a run that watches is meant to end."""


@dataclass(frozen=True)
class _Scored:
    """One file's result without its pictures, its overlays by class name, its maps as stored, and the drawing."""

    result: Result[FoundFile]
    heatmaps: dict[str, str]
    maps: StoredMaps | None
    drawing: Future[None] | None

    @property
    def is_drawn(self) -> bool:
        return self.drawing is None or self.drawing.done()


class Run:
    """One run, with an open store and an open screener: over a list of files, or over folders that are watched."""

    def __init__(
        self,
        store: ResultsStore,
        screener: Screener,
        out: Path,
        options: TriageOptions,
        progress: Progress,
        stop: Callable[[], str],
    ) -> None:
        self._store, self._screener, self._out = store, screener, out
        self._options, self._progress, self._stop = options, progress, stop
        self._identities = Identities(store)
        self._grouping = Grouping(options.study_by, Redaction(out) if options.redact_paths else None)
        self._summary = TriageSummary(out, warning=screener.opened.warning)
        self._drawing: deque[_Scored] = deque()
        self._done: list[_Scored] = []
        self._committed_at = self._reported_at = time.monotonic()
        self._recorded = self._reported = 0
        self._outbox = Outbox(store, options.on_positive) if options.on_positive else None
        self._health = Health(out)
        self._watcher: Watcher | None = None

    def screen(self, files: Sequence[FoundFile], listing: Listing) -> TriageSummary:
        """Look at every file, record what became of it, and write worklist and report."""
        summary, store = self._summary, self._store
        summary.listed, summary.left_out = len(files), dict(listing.left_out)
        self._start(listing.roots)
        note_listed(store, self._id, len(files), summary.left_out)
        if self._options.resume and not self._options.redact_paths:
            self._identities.recognise(files)
        self._write_reports("under way")
        ended = "broken off by an error"
        try:
            with self._outbox or nullcontext():
                self._look_at(self._jobs(files), len(files))
                ended = summary.interrupted = self._stop() if self._recorded < len(files) else ""
                if self._outbox is not None:
                    summary.undelivered = self._outbox.finish(0 if ended else _LAST_DELIVERIES)
            if not ended:
                summary.gone = store.mark_gone(self._identities.missing(files))
                self._mark_moved()
        finally:
            if ended:
                summary.interrupted = ended
                ended = f"interrupted ({ended}): {self._recorded} of {len(files)} files"
            self._write_reports(ended)
            # Last of all: a run is finished when everything is written.
            finish_run(store, self._id, interrupted=ended)
            self._log_end(ended)
        return summary

    def watch(self, watcher: Watcher) -> TriageSummary:
        """Look at files as they come, until the run is stopped: that is its proper end."""
        summary, store = self._summary, self._store
        self._watcher = watcher
        self._start(watcher.roots)
        self._write_reports("watching")
        self._health.ready()
        ended = "broken off by an error"
        try:
            with self._outbox or nullcontext():
                self._look_at(self._arrivals(watcher), None)
                ended = summary.interrupted = self._stop()
                if self._outbox is not None:
                    summary.undelivered = self._outbox.finish(0)
        finally:
            summary.listed, summary.left_out = watcher.listed, dict(watcher.left_out)
            note_listed(store, self._id, watcher.listed, summary.left_out)
            self._mark_moved()
            self._write_reports("" if ended in _ASKED else ended)
            finish_run(store, self._id, interrupted="" if ended in _ASKED else ended)
            self._health.write("stopped", reason=ended, recorded=self._recorded)
            self._log_end(ended)
        return summary

    def _start(self, roots: Collection[str]) -> None:
        opened, self._roots = self._screener.opened, roots
        self._id = start_run(self._store, opened, self._options.as_dict(), roots)
        log.info(
            "run started",
            extra={"run": self._id, "bundle_sha256": opened.bundle.sha256, "executed": opened.description},
        )

    def _log_end(self, ended: str) -> None:
        counts = dict(self._summary.counts)
        log.info("run ended", extra={"run": self._id, "interrupted": ended, "recorded": self._recorded, **counts})

    def _look_at(self, jobs: Iterable[tuple[FoundFile, Path, str] | None], total: int | None) -> None:
        for result in self._screener.screen_files(jobs, preview=self._options.heatmaps != "none"):
            if not self._is_tried_again(result):
                self._draw(result)
            self._record(total)
            if self._watcher is not None:
                self._beat(self._watcher)
        self._record(total, last=True)

    def _is_tried_again(self, result: Result[FoundFile]) -> bool:
        """Whether a watched file whose content could not be read is to be read once more before that is recorded."""
        unread = result.status == "failed" and not result.sha256
        return unread and self._watcher is not None and self._watcher.try_again((result.key.root, result.key.path))

    def _arrivals(self, watcher: Watcher) -> Iterator[tuple[FoundFile, Path, str] | None]:
        """Files as they become whole; None where there is none for now, after a while or when something happened."""
        first = True
        while not self._stop():
            for file in watcher.due():
                if self._stop():
                    break
                yield file, file.file, self._known(file)
            if first:
                # What went while nobody watched.
                first = False
                self._mark_gone(watcher.absent(self._store.identities()))
            # Between two files nothing else writes: what has gone, events, reports and the sign of life.
            self._record(None)
            if self._outbox is not None:
                self._outbox.send()
            self._report_while_watching(changed=self._mark_gone(watcher.take_gone()))
            self._beat(watcher)
            yield None
            watcher.wait(_QUIET)
        self._health.stopping()

    def _mark_moved(self) -> None:
        """A folder that was renamed, or mounted elsewhere: what it held is recorded at its new place alone."""
        moved = self._identities.moved(self._id, self._roots, redacted=self._options.redact_paths)
        self._summary.gone += self._store.mark_gone(moved) if moved else 0

    def _beat(self, watcher: Watcher) -> None:
        self._health.beat("watching", recorded=self._recorded, files=watcher.listed, away=watcher.away_as_recorded)

    def _report_while_watching(self, *, changed: bool) -> None:
        """Write worklist and report again, when there is something new and the last time is long enough ago."""
        waited = time.monotonic() - self._reported_at
        if (changed or self._recorded != self._reported) and waited >= _REPORT_SECONDS:
            started = time.monotonic()
            self._mark_moved()
            self._write_reports("watching")
            # A large folder takes long to report on: no more than a tenth of the time goes into it.
            self._reported_at = time.monotonic() + 9 * (time.monotonic() - started)
            self._reported = self._recorded

    def _jobs(self, files: Sequence[FoundFile]) -> Iterator[tuple[FoundFile, Path, str]]:
        for file in files:
            if self._stop():
                return
            yield file, file.file, self._known(file)

    def _draw(self, result: Result[FoundFile]) -> None:
        """Have the overlays of a result drawn, and take those that are done, in order."""
        job, names = None, dict[str, str]()
        if self._options.heatmaps != "none":
            job, names = drawing_job(result, self._out, every_class=self._options.heatmaps == "all")
        drawing = None if job is None else self._screener.in_background(draw, job)
        self._drawing.append(_Scored(result.without_pictures(), names, pack(result.maps), drawing))
        while self._drawing and (len(self._drawing) > _DRAWING or self._drawing[0].is_drawn):
            self._take_drawn()

    def _take_drawn(self) -> None:
        scored = self._drawing.popleft()
        if scored.drawing is not None:
            try:
                scored.drawing.result()  # a disk that is full ends the run
            except (WorkerDied, WorkerTooSlow, MemoryError):
                scored = replace(scored, heatmaps={}, result=scored.result.with_note("heatmaps could not be drawn"))
        self._done.append(scored)

    def _record(self, total: int | None, *, last: bool = False) -> None:
        """Commit what is done, when it is time for it."""
        while self._drawing and (last or self._drawing[0].is_drawn):
            self._take_drawn()
        waited = time.monotonic() - self._committed_at
        if not self._done or not (last or len(self._done) >= _COMMIT_FILES or waited >= _COMMIT_SECONDS):
            return
        with self._store.transaction():
            for scored in self._done:
                self._record_one(scored)
        if self._watcher is not None:
            # What went while it was being scored went before it had a row to be marked.
            files = [(scored.result.key.root, scored.result.key.path) for scored in self._done]
            self._mark_gone([file for file in files if not self._watcher.lists(file)])
        if self._outbox is not None:
            self._outbox.send()
        for scored in self._done:
            _count(self._summary, scored.result)
        self._recorded += len(self._done)
        log.info("recorded", extra={"files": len(self._done), "recorded": self._recorded, "of": total})
        self._done.clear()
        self._committed_at = time.monotonic()
        if total is not None:
            self._progress.count(self._recorded, total, "screening")

    def _record_one(self, scored: _Scored) -> None:
        result = scored.result
        root, path = self._identities.row_of(result.key.root, result.key.path)
        if result.status == "unchanged":
            self._store.mark_present(root, path)
            return
        if result.status != "ok":
            # Without its path, which may hold a name; the record has it under this hash.
            log.info("not scored", extra={"status": result.status, "reason": result.reason, "sha256": result.sha256})
        study, recorded = self._grouping.study_of(root, path, result), self._grouping.as_recorded(result)
        self._store.record(self._id, root, path, recorded, study, scored.heatmaps, scored.maps)
        if self._outbox is not None:
            add_event(self._store, root, result, path, study.label)

    def _known(self, file: FoundFile) -> str:
        """The hash of a file's content that has a result already."""
        return self._store.known(*self._identities.row_of(file.root, file.path))

    def _mark_gone(self, files: Iterable[tuple[str, str]]) -> bool:
        """Mark the rows of watched files that are not there any more; whether there were files."""
        gone = [self._identities.row_of(*file) for file in files]
        marked = self._store.mark_gone(gone) if gone else 0
        self._summary.gone += marked
        if marked:
            log.info("no longer there", extra={"files": marked})
        return bool(gone)

    def _write_reports(self, incomplete: str) -> None:
        incomplete = incomplete or unfinished(self._store, apart_from=self._id)
        write_worklist(self._store.db, self._out / "worklist.csv", incomplete=incomplete)
        write_report(self._store.db, self._out / "report.html", incomplete=incomplete)


def _count(summary: TriageSummary, result: Result[FoundFile]) -> None:
    summary.counts[result.status] += 1
    summary.positives.update(f.class_name for f in result.findings if f.positive)
    if result.status in ("rejected", "failed"):
        summary.reasons[f"{result.status}: {result.reason}"] += 1
