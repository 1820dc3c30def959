"""The triage run: folders of radiographs in; results.db, heatmaps, worklist and report out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from xrt.runtime._io import RESULTS_NAME, image_files, png_bytes, write_atomically
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.heatmaps import overlay
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.screening.redaction import Redaction
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.screener import Screener, ScreeningOptions
from xrt.runtime.screening.store import ResultsStore, Study
from xrt.runtime.screening.worklist import write_worklist

Heatmaps = Literal["positive", "all", "none"]
StudyRule = Literal["uid", "folder", "stem", "image"]


@dataclass(frozen=True)
class TriageOptions:
    """How a triage run works. `heatmaps` says for which classes overlays are written.

    With `require_radiographs`, a variant that was certified on synthetic phantoms only is refused.

    `study_by`: images of a study share the StudyInstanceUID (`uid`; files without one count as a study each), the
    `folder`, the file name up to its last underscore or dash (`stem`), or nothing (`image`).
    """

    backend: str = "auto"
    precision: str = "auto"
    require_radiographs: bool = False
    screening: ScreeningOptions = ScreeningOptions()
    heatmaps: Heatmaps = "positive"
    study_by: StudyRule = "uid"
    redact_paths: bool = False
    resume: bool = False

    def as_dict(self) -> dict[str, Any]:
        """All settings by name, as a run records them."""
        settings = asdict(self)
        screening = settings.pop("screening")
        del screening["limits"]
        return {**settings, **screening}


@dataclass
class TriageSummary:
    """What a run did: files by status, why some have no score, and where the results are."""

    out: Path
    counts: Counter[str] = field(default_factory=Counter)
    positives: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    warning: str | None = None

    @property
    def failed(self) -> int:
        """Files that could not be read."""
        return self.counts["failed"]


class _File(NamedTuple):
    root: str
    path: str
    file: Path


def triage(
    bundle: Bundle,
    paths: Sequence[Path],
    out: Path,
    options: TriageOptions = TriageOptions(),
    *,
    progress: Progress = SILENT,
) -> TriageSummary:
    """Score every file under `paths` and record it in `out`.

    A batch's heatmaps are on disk before its rows are committed, so a kill loses at most the batch in flight, which
    `resume` does again. Raises UsageError when `out` holds results and `resume` is not given, and whatever opening
    the bundle raises; an unreadable file raises nothing, it is recorded.
    """
    if (out / RESULTS_NAME).exists() and not options.resume:
        raise UsageError(f"{out} holds results already: --resume continues there, or choose another --out")
    files = list(_files(paths, out, Redaction(out) if options.redact_paths else None))
    if not files:
        raise UsageError(f"no files under {', '.join(map(str, paths))}")
    summary = TriageSummary(out)
    screener = Screener(
        bundle,
        backend=options.backend,
        precision=options.precision,
        require_radiographs=options.require_radiographs,
        options=options.screening,
    )
    with screener, ResultsStore(out) as store:
        summary.warning = screener.opened.warning
        run = store.start_run(screener.opened, options.as_dict())
        jobs = ((f, f.file, store.known(f.root, f.path)) for f in files)
        try:
            for done, batch in _batches(screener.screen_files(jobs), options.screening.batch_size):
                overlays = [_draw(result, out, options.heatmaps) for result in batch]
                with store.transaction():
                    for result, heatmaps in zip(batch, overlays, strict=True):
                        _count(summary, result)
                        if result.status != "unchanged":
                            study = _study(result, options.study_by)
                            store.record(run, result.key.root, result.key.path, result, study, heatmaps)
                progress.count(done, len(files), "screening")
            store.finish_run(run)
        finally:
            # An interrupted run leaves a worklist of what it recorded.
            write_worklist(store.db, out / "worklist.csv")
            write_report(store.db, screener.opened, out / "report.html")
    return summary


def _files(paths: Sequence[Path], out: Path, redact: Redaction | None) -> Iterator[_File]:
    """Every file with the root it was found under and its path relative to it; no path twice."""
    absolute_paths: set[str] = set()
    own = out.resolve()
    for path in paths:
        root = path if path.is_dir() else path.parent
        for file in image_files(path):
            absolute = os.path.abspath(file)  # noqa: PTH100 (a link is a path of its own, and may be a loop)
            if absolute in absolute_paths or (own / "heatmaps") in Path(absolute).parents:
                continue
            absolute_paths.add(absolute)
            # Names that are not UTF-8 are recorded readably; the file itself is opened by its true name.
            at, name = (_recordable(p) for p in (root.resolve(), PurePosixPath(file.relative_to(root).as_posix())))
            yield _File(at, name, file) if redact is None else _File(redact(at), redact(name), file)


def _recordable(path: os.PathLike[str]) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _batches(results: Iterator[Result[_File]], size: int) -> Iterator[tuple[int, list[Result[_File]]]]:
    """Group results as they come, with how many have come so far."""
    batch: list[Result[_File]] = []
    done = 0
    for result in results:
        batch.append(result)
        done += 1
        if len(batch) >= size:
            yield done, batch
            batch = []
    if batch:
        yield done, batch


def _draw(result: Result[_File], out: Path, which: Heatmaps) -> dict[str, str]:
    """Write the overlays that are asked for; class name to file, relative to `out`."""
    if result.status != "ok" or which == "none" or result.preview is None or result.placement is None:
        return {}
    files = {}
    for index, finding in enumerate(result.findings):
        cam = result.maps.get(finding.class_name)
        if cam is None or not (finding.positive or which == "all"):
            continue
        box = result.upright_box(finding)
        image = overlay(result.preview, cam, result.placement, result.input_size, result.upright_size, box)
        # The class's number keeps names apart that differ only in characters that file names cannot hold.
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in finding.class_name.lower())[:40]
        name = f"heatmaps/{result.sha256[:2]}/{result.sha256[:24]}-{index}-{slug}.png"
        write_atomically(out / name, png_bytes(image, level=1))
        files[finding.class_name] = name
    return files


def _study(result: Result[_File], rule: StudyRule) -> Study:
    root, path, _ = result.key
    if rule == "uid" and result.study_uid:
        return Study(result.study_uid, result.study_uid)
    pure = PurePosixPath(path)
    if rule == "folder":
        pure = pure.parent
    elif rule == "stem":
        cut = max(pure.stem.rfind("_"), pure.stem.rfind("-"))
        pure = pure.with_name(pure.stem[:cut] if cut > 0 else pure.stem)
    return Study(f"{root}/{pure}", str(pure) if str(pure) != "." else PurePosixPath(root).name)


def _count(summary: TriageSummary, result: Result[_File]) -> None:
    summary.counts[result.status] += 1
    summary.positives.update(f.class_name for f in result.findings if f.positive)
    if result.status in ("rejected", "failed"):
        summary.reasons[f"{result.status}: {result.reason}"] += 1
