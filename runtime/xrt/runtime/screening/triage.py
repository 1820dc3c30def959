"""The triage run: folders of radiographs in; results.db, heatmaps, worklist and report out."""

from __future__ import annotations

import hmac
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from PIL import Image

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.errors import UsageError
from xrt.runtime.files import RESULTS_NAME, image_files, write_durably
from xrt.runtime.screening.heatmap import overlay
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.result import Result
from xrt.runtime.screening.screener import Screener
from xrt.runtime.screening.store import ResultsStore, Study
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
    if (out / RESULTS_NAME).exists() and not options.resume:
        raise UsageError(f"{out} holds results already: --resume continues there, or choose another --out")
    found = list(_files(paths, out, Redaction(out) if options.redact_paths else None))
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


def _files(paths: Sequence[Path], out: Path, redact: Redaction | None) -> Iterator[_File]:
    """Every file with the root it was found under and its path relative to it; no path twice."""
    seen: set[str] = set()
    own = out.resolve()
    for given in paths:
        root = given if given.is_dir() else given.parent
        for file in image_files(given):
            absolute = os.path.abspath(file)  # noqa: PTH100 (a link is a path of its own, and may be a loop)
            if absolute in seen or (own / "heatmaps") in Path(absolute).parents:
                continue
            seen.add(absolute)
            # Names that are not UTF-8 are recorded readably; the file itself is opened by its true name.
            at, name = (_recordable(p) for p in (root.resolve(), PurePosixPath(file.relative_to(root).as_posix())))
            yield _File(at, name, file) if redact is None else _File(redact(at), redact(name), file)


def _recordable(path: os.PathLike[str]) -> str:
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Redaction:
    """Stand-ins for paths that may carry names: the same path in the same output folder always gets the same one.

    Every component is replaced by a keyed hash, so that folders still group; the key stays in the output folder.
    """

    def __init__(self, out: Path) -> None:
        file = out / ".redaction-key"
        if not file.exists():
            write_durably(file, os.urandom(32))
        self._key = file.read_bytes()

    def __call__(self, path: str) -> str:
        """The stand-in for a path."""
        pure = PurePosixPath(path)
        parts = [self._stand_in(part) for part in (*pure.parent.parts, *self._stem_parts(pure.name))]
        folders, last = parts[: len(pure.parent.parts)], parts[len(pure.parent.parts) :]
        return "/".join([*folders, "_".join(last) + self._suffix(pure.name)])

    def _stem_parts(self, name: str) -> list[str]:
        stem = name.removesuffix(self._suffix(name))
        cut = max(stem.rfind("_"), stem.rfind("-"))
        # Both sides of the last separator, as `--study-by stem` groups them.
        return [stem[:cut], stem[cut + 1 :]] if cut > 0 else [stem]

    @staticmethod
    def _suffix(name: str) -> str:
        suffix = PurePosixPath(name).suffix
        return suffix if suffix.lower() in _SUFFIXES else ""

    def _stand_in(self, part: str) -> str:
        return hmac.new(self._key, part.encode(), "sha256").hexdigest()[:12]


_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"}


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
    for index, finding in enumerate(result.findings):
        cam = result.maps.get(finding.class_name)
        if cam is None or not (finding.positive or which == "all"):
            continue
        stored = result.height, result.width
        image = overlay(result.preview, cam, result.placement, result.input_size, stored, finding.box)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=1)
        # The class's number keeps names apart that differ only in characters that file names cannot hold.
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in finding.class_name.lower())[:40]
        name = f"heatmaps/{result.sha256[:2]}/{result.sha256[:24]}-{index}-{slug}.png"
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
    if result.status in ("rejected", "failed"):
        summary.reasons[f"{result.status}: {result.reason}"] += 1
