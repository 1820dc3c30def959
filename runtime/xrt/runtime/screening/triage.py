"""The triage run: folders of radiographs in; results.db, heatmaps, worklist and report out."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from PIL import Image

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.files import image_files, write_durably
from xrt.runtime.screening.heatmap import overlay
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.screener import Screener
from xrt.runtime.screening.store import NAME, ResultsStore, Study
from xrt.runtime.screening.worklist import write_worklist

Heatmaps = Literal["positive", "all", "none"]
StudyRule = Literal["uid", "folder", "stem", "image"]


@dataclass(frozen=True)
class TriageOptions:
    """How a triage run works. `heatmaps` says for which classes overlays are written.

    `study_by`: images of a study share the StudyInstanceUID (`uid`; files without one count as a study each), the
    `folder`, the file name up to its last underscore or dash (`stem`), or nothing (`image`).
    """

    backend: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    workers: int | None = None
    threads: int = 0
    heatmaps: Heatmaps = "positive"
    study_by: StudyRule = "uid"
    any_body_part: bool = False
    redact_paths: bool = False
    resume: bool = False


@dataclass
class TriageSummary:
    """What a run did: files by status, and where the results are."""

    out: Path
    counts: Counter[str] = field(default_factory=Counter)
    positives: Counter[str] = field(default_factory=Counter)
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
    options: TriageOptions | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TriageSummary:
    """Score every file under `paths` and record it in `out`.

    A batch's heatmaps are on disk before its rows are committed, so a kill loses at most the batch in flight, which
    `resume` does again. Raises UsageError when `out` holds results and `resume` is not given, and whatever opening
    the bundle raises; an unreadable file raises nothing, it is recorded.
    """
    options = options or TriageOptions()
    if (out / NAME).exists() and not options.resume:
        raise UsageError(f"{out} holds results already: --resume continues there, or choose another --out")
    found = list(_files(paths, out, options.redact_paths))
    if not found:
        raise UsageError(f"no files under {', '.join(map(str, paths))}")
    summary = TriageSummary(out)
    screener = Screener(
        bundle,
        backend=options.backend,
        precision=options.precision,
        batch_size=options.batch_size,
        workers=options.workers,
        threads=options.threads,
        any_body_part=options.any_body_part,
    )
    with screener, ResultsStore(out) as store:
        summary.warning = screener.opened.warning
        run = store.start_run(bundle, screener.opened, asdict(options))
        jobs = ((f, f.file, store.known(f.root, f.path)) for f in found)
        try:
            for done, batch in _batches(screener.screen_files(jobs), options.batch_size):
                drawn = [_draw(result, out, options.heatmaps) for result in batch]
                with store.transaction():
                    for result, heatmaps in zip(batch, drawn, strict=True):
                        _count(summary, result)
                        if result.status != "unchanged":
                            study = _study(result, options.study_by)
                            store.record(run, result.key.root, result.key.path, result, study, heatmaps)
                progress(done, len(found))
            store.finish_run(run)
        finally:
            # An interrupted run leaves a worklist of what it recorded.
            write_worklist(store.db, out / "worklist.csv")
            write_report(store.db, bundle, screener.opened, out / "report.html")
    return summary


def _files(paths: Sequence[Path], out: Path, redact: bool) -> Iterator[_File]:
    """Every file with the root it was found under and its path relative to it; none twice, none of `out`'s own."""
    seen: set[Path] = set()
    own = out.resolve()
    for given in paths:
        root = given if given.is_dir() else given.parent
        for file in image_files(given):
            resolved = file.resolve()
            if resolved in seen or own in resolved.parents:
                continue
            seen.add(resolved)
            name = PurePosixPath(file.relative_to(root)).as_posix()
            at = str(root.resolve())
            yield _File(_redacted(at), _redacted(name), file) if redact else _File(at, name, file)


def _redacted(name: str) -> str:
    """A stand-in for a path that may carry a patient's name: the same path always gets the same one."""
    return f"{hashlib.sha256(name.encode()).hexdigest()[:16]}{PurePosixPath(name).suffix}"


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
    drawn = {}
    for finding in result.findings:
        cam = result.maps.get(finding.class_name)
        if cam is None or not (finding.positive or which == "all"):
            continue
        size = result.input_size
        image = overlay(result.preview, cam, result.placement, size, (result.height, result.width), finding.box)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        slug = "".join(c if c.isalnum() else "-" for c in finding.class_name.lower())
        name = f"heatmaps/{result.sha256[:2]}/{result.sha256[:24]}-{slug}.png"
        write_durably(out / name, buffer.getvalue())
        drawn[finding.class_name] = name
    return drawn


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
