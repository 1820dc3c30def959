"""The triage run: folders of radiographs in; results.db, heatmaps, worklist and report out."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from xrt.runtime._io import RESULTS_NAME, sweep
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.screening.health import Health
from xrt.runtime.screening.listing import FoundFile, Listing
from xrt.runtime.screening.outbox import Outbox, add_event
from xrt.runtime.screening.overlays import draw, drawing_job
from xrt.runtime.screening.redaction import Redaction
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.store import ResultsStore, Study
from xrt.runtime.screening.watch import Watcher, WatchOptions
from xrt.runtime.screening.worklist import write_worklist

Heatmaps = Literal["positive", "all", "none"]
StudyRule = Literal["uid", "folder", "stem", "image"]

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
class TriageOptions:
    """How a triage run works. `heatmaps` says for which classes overlays are written.

    With `require_radiographs`, a variant that was certified on synthetic phantoms only is refused.

    `study_by`: images of a study share the StudyInstanceUID (`uid`; files without one count as a study each), the
    `folder`, the file name up to its last underscore or dash (`stem`), or nothing (`image`). `follow_links` looks at
    what links lead to outside of the folders given. With `watch` a run goes on until it is stopped. `on_positive` is a
    command, as a list, that is told of every image with findings.
    """

    backend: str = "auto"
    precision: str = "auto"
    require_radiographs: bool = False
    screening: ScreeningOptions = ScreeningOptions()
    heatmaps: Heatmaps = "positive"
    study_by: StudyRule = "uid"
    redact_paths: bool = False
    follow_links: bool = False
    resume: bool = False
    watch: WatchOptions | None = None
    on_positive: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, as a run records them."""
        settings = asdict(self)
        screening = settings.pop("screening")
        del screening["limits"]
        return {**settings, **screening}


@dataclass
class TriageSummary:
    """What a run did: files by status, why some have no score, what was left out, and where the results are.

    `listed` files were found; `interrupted` says why a run ended before it had looked at them all.
    """

    out: Path
    counts: Counter[str] = field(default_factory=Counter)
    positives: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    warning: str | None = None
    listed: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    gone: int = 0
    undelivered: int = 0
    interrupted: str = ""

    @property
    def failed(self) -> int:
        """Files that could not be read."""
        return self.counts["failed"]


def triage(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    options: TriageOptions = TriageOptions(),
    *,
    progress: Progress = SILENT,
    stop: Callable[[], str] = lambda: "",
) -> TriageSummary:
    """Score every file under `paths` and record it in `out`.

    An image's heatmaps are on disk before its row is committed, so a kill loses at most the last second's work, which
    `resume` does again. `stop` is asked before every file; when it gives a reason, what is under way is finished,
    recorded and reported as interrupted. Raises UsageError when `out` holds results and `resume` is not given, and
    whatever opening the bundle raises; an unreadable file raises nothing, it is recorded.
    """
    if (out / RESULTS_NAME).exists() and not options.resume and options.watch is None:
        raise UsageError(f"{out} holds results already: --resume continues there, or choose another --out")
    listing = Listing(
        paths, out, follow_links=options.follow_links, redact=Redaction(out) if options.redact_paths else None
    )
    if options.watch is not None and (single := [path for path in paths if not path.is_dir()]):
        raise UsageError(f"{single[0]} is no folder: only folders can be watched")
    files = [] if options.watch is not None else list(listing)
    screener = Screener(
        bundle,
        backend=options.backend,
        precision=options.precision,
        require_radiographs=options.require_radiographs,
        options=options.screening,
    )
    with screener, ResultsStore(out) as store:
        sweep(out)
        run = _Run(store, screener, out, options, progress, stop)
        if options.watch is None:
            return run.screen(files, listing)
        with Watcher(listing, list(paths), options.watch) as watcher:
            return run.watch(watcher)


class _Run:
    """One run over a list of files, with an open store and an open screener."""

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
        self._redact = Redaction(out) if options.redact_paths else None
        self._summary = TriageSummary(out, warning=screener.opened.warning)
        self._drawing: deque[tuple[Result[FoundFile], dict[str, str], Future[None] | None]] = deque()
        self._done: list[tuple[Result[FoundFile], dict[str, str]]] = []
        self._committed_at = self._reported_at = time.monotonic()
        self._recorded = self._reported = 0
        self._outbox = Outbox(store, options.on_positive) if options.on_positive else None
        self._health = Health(out)
        self._watcher: Watcher | None = None

    def screen(self, files: Sequence[FoundFile], listing: Listing) -> TriageSummary:
        """Look at every file, record what became of it, and write worklist and report."""
        summary, store = self._summary, self._store
        summary.listed, summary.left_out = len(files), dict(listing.left_out)
        self._id = store.start_run(self._screener.opened, self._options.as_dict())
        store.note_listed(self._id, len(files), summary.left_out)
        self._recognise(files)
        self._write_reports("under way")
        ended = "broken off by an error"
        try:
            with self._outbox or nullcontext():
                self._look_at(self._jobs(files), len(files))
                ended = summary.interrupted = self._stop() if self._recorded < len(files) else ""
                if self._outbox is not None:
                    summary.undelivered = self._outbox.finish(0 if ended else _LAST_DELIVERIES)
            if not ended:
                summary.gone = store.mark_gone(self._missing(files))
        finally:
            if ended:
                summary.interrupted = ended
                ended = f"interrupted ({ended}): {self._recorded} of {len(files)} files"
            self._write_reports(ended)
            # Last of all: a run is finished when everything is written.
            store.finish_run(self._id, interrupted=ended)
        return summary

    def watch(self, watcher: Watcher) -> TriageSummary:
        """Look at files as they come, until the run is stopped: that is its proper end."""
        summary, store = self._summary, self._store
        self._watcher = watcher
        self._id = store.start_run(self._screener.opened, self._options.as_dict())
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
            summary.listed = watcher.listed
            store.note_listed(self._id, watcher.listed, {})
            self._write_reports("" if ended in _ASKED else ended)
            store.finish_run(self._id, interrupted="" if ended in _ASKED else ended)
            self._health.write("stopped", reason=ended, recorded=self._recorded)
        return summary

    def _look_at(self, jobs: Iterable[tuple[FoundFile, Path, str] | None], total: int | None) -> None:
        for result in self._screener.screen_files(jobs, preview=self._options.heatmaps != "none"):
            if not self._is_tried_again(result):
                self._draw(result)
            self._record(total)
            if total is None:
                self._health.beat("watching", recorded=self._recorded)
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
                yield file, file.file, self._store.known(file.root, file.path)
            if first:
                # What went while nobody watched.
                first = False
                self._summary.gone += self._store.mark_gone(watcher.absent(self._store.identities()))
            # Between two files nothing else writes: what has gone, events, reports and the sign of life.
            self._record(None)
            if self._outbox is not None:
                self._outbox.send()
            self._summary.gone += self._store.mark_gone(gone) if (gone := watcher.take_gone()) else 0
            self._report_while_watching(changed=bool(gone))
            self._health.beat(
                "watching", recorded=self._recorded, files=watcher.listed, away=[str(path) for path in watcher.away]
            )
            yield None
            watcher.wait(_QUIET)
        self._health.stopping()

    def _report_while_watching(self, *, changed: bool) -> None:
        """Write worklist and report again, when there is something new and the last time is long enough ago."""
        waited = time.monotonic() - self._reported_at
        if (changed or self._recorded != self._reported) and waited >= _REPORT_SECONDS:
            started = time.monotonic()
            self._write_reports("watching")
            # A large folder takes long to report on: no more than a tenth of the time goes into it.
            self._reported_at = time.monotonic() + 9 * (time.monotonic() - started)
            self._reported = self._recorded

    def _jobs(self, files: Sequence[FoundFile]) -> Iterator[tuple[FoundFile, Path, str]]:
        for file in files:
            if self._stop():
                return
            yield file, file.file, self._store.known(file.root, file.path)

    def _draw(self, result: Result[FoundFile]) -> None:
        """Have the overlays of a result drawn, and take those that are done, in order."""
        job, names = None, dict[str, str]()
        if self._options.heatmaps != "none":
            job, names = drawing_job(result, self._out, every_class=self._options.heatmaps == "all")
        future = None if job is None else self._screener.in_background(draw, job)
        self._drawing.append((result.without_pictures(), names, future))
        while self._drawing and (len(self._drawing) > _DRAWING or _is_done(self._drawing[0][2])):
            self._take_drawn()

    def _take_drawn(self) -> None:
        result, names, future = self._drawing.popleft()
        if future is not None:
            future.result()  # a disk that is full ends the run
        self._done.append((result, names))

    def _record(self, total: int | None, *, last: bool = False) -> None:
        """Commit what is done, when it is time for it."""
        while self._drawing and (last or _is_done(self._drawing[0][2])):
            self._take_drawn()
        waited = time.monotonic() - self._committed_at
        if not self._done or not (last or len(self._done) >= _COMMIT_FILES or waited >= _COMMIT_SECONDS):
            return
        with self._store.transaction():
            for result, heatmaps in self._done:
                root, path, _ = result.key
                if result.status == "unchanged":
                    self._store.mark_present(root, path)
                else:
                    study = self._study(result)
                    self._store.record(self._id, root, path, self._redacted(result), study, heatmaps)
                    if self._outbox is not None:
                        add_event(self._store, root, result, path, study.label)
        if self._watcher is not None:
            # What went while it was being scored went before it had a row to be marked.
            recorded = {(result.key.root, result.key.path): result.sha256 for result, _ in self._done}
            went = {file: sha256 for file, sha256 in recorded.items() if not self._watcher.lists(file)}
            self._summary.gone += self._store.mark_gone(went) if went else 0
        if self._outbox is not None:
            self._outbox.send()
        for result, _ in self._done:
            _count(self._summary, result)
        self._recorded += len(self._done)
        self._done.clear()
        self._committed_at = time.monotonic()
        if total is not None:
            self._progress.count(self._recorded, total, "screening")

    def _recognise(self, files: Sequence[FoundFile]) -> None:
        """Where a folder was renamed or mounted elsewhere, its rows become those of the files that are there now."""
        if not self._options.resume or self._options.redact_paths:
            return
        known = self._store.identities()
        roots = {file.root for file in files}
        for before in sorted({root for root, _ in known} - roots):
            if Path(before).exists():
                continue
            paths = {path for root, path in known if root == before}
            for after in sorted(roots):
                there = {file.path for file in files if file.root == after}
                unknown = not any(root == after for root, _ in known)
                if unknown and len(paths & there) * 2 > len(paths):
                    self._store.rename_root(before, after)
                    break

    def _missing(self, files: Sequence[FoundFile]) -> Mapping[tuple[str, str], str]:
        """Rows under the folders of this run whose file is not there any more."""
        present = {(file.root, file.path) for file in files}
        roots = {file.root for file in files if file.file.exists()}
        return {
            identity: sha256
            for identity, sha256 in self._store.identities().items()
            if identity[0] in roots and identity not in present
        }

    def _redacted(self, result: Result[FoundFile]) -> Result[FoundFile]:
        if self._redact is None:
            return result
        return result.with_identifier(self._redact.identifier(result.sop_instance_uid))

    def _study(self, result: Result[FoundFile]) -> Study:
        root, path, _ = result.key
        uid = result.study_uid if self._redact is None else self._redact.identifier(result.study_uid)
        rule = self._options.study_by
        if rule == "uid" and uid:
            # A path can look like a UID, and two patients have had one by mistake.
            return Study(f"uid:{uid}#{result.patient_digest}", uid, uid)
        pure = PurePosixPath(path)
        if rule == "folder":
            pure = pure.parent
        elif rule == "stem":
            cut = max(pure.stem.rfind("_"), pure.stem.rfind("-"))
            pure = pure.with_name(pure.stem[:cut] if cut > 0 else pure.stem)
        return Study(f"{root}/{pure}", str(pure) if str(pure) != "." else PurePosixPath(root).name, uid)

    def _write_reports(self, incomplete: str) -> None:
        write_worklist(self._store.db, self._out / "worklist.csv", incomplete=incomplete)
        write_report(self._store.db, self._screener.opened, self._out / "report.html", incomplete=incomplete)


def _is_done(future: Future[None] | None) -> bool:
    return future is None or future.done()


def _count(summary: TriageSummary, result: Result[FoundFile]) -> None:
    summary.counts[result.status] += 1
    summary.positives.update(f.class_name for f in result.findings if f.positive)
    if result.status in ("rejected", "failed"):
        summary.reasons[f"{result.status}: {result.reason}"] += 1
