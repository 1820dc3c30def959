"""Heatmaps of recorded results, drawn when they are asked for: from the stored maps and the files themselves."""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from xrt.runtime._io import RESULTS_NAME
from xrt.runtime.bundle.manifest import CONTENT_CHECKS, Manifest
from xrt.runtime.decisions import excess
from xrt.runtime.errors import UsageError
from xrt.runtime.geometry import Box
from xrt.runtime.imaging.load import LoadedImage, LoadOptions, load_radiograph
from xrt.runtime.imaging.pool import DecodingPool
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.screening.listing import opened_as
from xrt.runtime.screening.maps import StoredMaps, unpack
from xrt.runtime.screening.overlays import draw, drawing_job
from xrt.runtime.screening.report import MAX_STUDIES, write_report
from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.screening.runs import unfinished
from xrt.runtime.screening.store import ResultsStore

_IN_FLIGHT = 32


@dataclass
class DrawSummary:
    """How many images got heatmaps, how many files were written, and why others got none, by recorded path."""

    images: int = 0
    heatmaps: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def draw_heatmaps(
    out: Path,
    files: Collection[str] = (),
    *,
    studies: int = MAX_STUDIES,
    heatmaps: Literal["positive", "all"] = "positive",
    workers: int | None = None,
    progress: Progress = SILENT,
) -> DrawSummary:
    """Draw the heatmaps of recorded images and write the report again, which then shows them.

    `files` are paths as results.db has them, or their ends from a folder on; without any, the most urgent `studies`
    are drawn. A file must be where it was, with the content that was scored. Raises UsageError when `out` holds no
    results, no image fits, paths are pseudonyms, or the results are of an earlier version, which kept no maps.
    """
    if not (out / RESULTS_NAME).is_file():
        raise UsageError(f"{out} holds no results: name the --out folder of `xrt triage`")
    with ResultsStore(out) as store:
        manifest = _manifest(store.db, out)
        options = LoadOptions(manifest.preprocessing, True, content_checks=dict.fromkeys(CONTENT_CHECKS, "off"))
        chosen = _images(store.db, files, studies)
        summary = DrawSummary()
        with DecodingPool(options, workers) as pool:
            jobs = ((image, stored_result(store.db, image, manifest)) for image in chosen)
            drawn = _drawn(jobs, out, pool, options, every_class=heatmaps == "all")
            for done, (image, names) in enumerate(drawn, start=1):
                if isinstance(names, str):
                    summary.skipped[image["path"]] = names
                elif names:
                    summary.images, summary.heatmaps = summary.images + 1, summary.heatmaps + len(names)
                    with store.transaction():
                        store.note_heatmaps(image["id"], names)
                progress.count(done, len(chosen), "drawing")
        write_report(store.db, out / "report.html", incomplete=unfinished(store))
        return summary


def stored_result(db: sqlite3.Connection, image: sqlite3.Row, manifest: Manifest) -> Result[str]:
    """A recorded image with its findings and maps, without what only its file has: picture and placement.

    `image` is a row of the table of that name, `manifest` that of the bundle which scored it.
    """
    query = "SELECT classes, height, width, scales, cells FROM map WHERE image_id = ?"
    row = db.execute(query, (image["id"],)).fetchone()
    rows = db.execute("SELECT * FROM finding WHERE image_id = ? ORDER BY id", (image["id"],)).fetchall()
    over = excess(np.array([[each["probability"] for each in rows]], np.float32), manifest)[0]
    findings = tuple(
        Finding(
            class_name=each["class"],
            logit=each["logit"],
            probability=each["probability"],
            threshold=each["threshold"],
            positive=bool(each["positive"]),
            excess=float(beyond),
            urgency=each["urgency"],
            box=None if each["box_x"] is None else Box(*(each[f"box_{n}"] for n in ("x", "y", "width", "height"))),
        )
        for each, beyond in zip(rows, over, strict=True)
    )
    return Result(
        key=image["path"],
        status="ok",
        sha256=image["sha256"],
        width=image["width"],
        height=image["height"],
        findings=findings,
        maps={} if row is None else unpack(StoredMaps(*row)),
    )


def _manifest(db: sqlite3.Connection, out: Path) -> Manifest:
    """That of the bundle whose results these are. Raises UsageError where nothing can be drawn from them."""
    row = db.execute(
        "SELECT manifest, settings FROM run JOIN bundle ON sha256 = bundle_sha256 ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if row is None:
        raise UsageError(f"{out} was written by an earlier version, which kept no maps: screen the files again")
    if json.loads(row["settings"]).get("redact_paths"):
        raise UsageError(f"{out} holds pseudonyms in place of paths: the files cannot be found by them")
    return Manifest.model_validate_json(row["manifest"])


def _images(db: sqlite3.Connection, files: Collection[str], studies: int) -> list[sqlite3.Row]:
    present = "current AND gone = '' AND status = 'ok'"
    if not files:
        return db.execute(
            f"SELECT image.* FROM (SELECT study_id, urgency FROM worklist LIMIT ?) first JOIN image USING (study_id)"
            f" WHERE {present} ORDER BY urgency DESC, path",
            (studies,),
        ).fetchall()
    chosen: dict[int, sqlite3.Row] = {}
    for name in files:
        found = db.execute(
            f"SELECT * FROM image WHERE {present} AND (path = ?1 OR root || '/' || path = ?1"
            " OR substr(path, -length(?1) - 1) = '/' || ?1)",
            (name,),
        ).fetchall()
        if not found:
            raise UsageError(f"no scored image is recorded at {name}")
        chosen.update({row["id"]: row for row in found})
    return list(chosen.values())


def _drawn(
    images: Iterable[tuple[sqlite3.Row, Result[str]]],
    out: Path,
    pool: DecodingPool,
    options: LoadOptions,
    *,
    every_class: bool,
) -> Iterator[tuple[sqlite3.Row, dict[str, str] | str]]:
    """Every image with the names of its heatmaps by class, or why it has none."""
    futures: deque[tuple[sqlite3.Row, Future[dict[str, str] | str]]] = deque()
    for image, result in images:
        file = opened_as(image["root"]) / opened_as(image["path"])
        futures.append((image, pool.submit(_draw_one, file, options, result, out, every_class)))
        if len(futures) >= _IN_FLIGHT:
            row, future = futures.popleft()
            yield row, pool.outcome_of(future)
    for row, future in futures:
        yield row, pool.outcome_of(future)


def _draw_one(
    file: Path, options: LoadOptions, result: Result[str], out: Path, every_class: bool
) -> dict[str, str] | str:
    """In a process of the pool: load the file again and draw."""
    loaded = load_radiograph(file, options)
    if not isinstance(loaded, LoadedImage):
        return loaded.reason
    if loaded.sha256 != result.sha256:
        return "the file has changed since it was scored"
    whole = replace(
        result,
        preview=loaded.preview,
        placement=loaded.placement,
        input_size=loaded.input_size,
        orientation=loaded.orientation,
    )
    job, names = drawing_job(whole, out, every_class=every_class)
    if job is not None:
        draw(job)
    return names
