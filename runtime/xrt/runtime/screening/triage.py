"""The triage run: folders of radiographs in; results.db, heatmaps, worklist and report out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xrt.runtime._io import RESULTS_NAME, sweep
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.screening.listing import Listing
from xrt.runtime.screening.options import DEFAULT_TRIAGE, TriageOptions, TriageSummary
from xrt.runtime.screening.redaction import Redaction
from xrt.runtime.screening.run import Run
from xrt.runtime.screening.screener import Screener
from xrt.runtime.screening.store import ResultsStore
from xrt.runtime.screening.watch import Watcher


def triage(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    options: TriageOptions = DEFAULT_TRIAGE,
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
        run = Run(store, screener, out, options, progress, stop)
        if options.watch is None:
            return run.screen(files, listing)
        with Watcher(listing, list(paths), options.watch) as watcher:
            return run.watch(watcher)
