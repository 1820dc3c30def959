"""`report.html`: the worklist with its overlays, what was not scored and why, and the model's limits."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from xrt.runtime._io import on_one_line, render_page, write_atomically
from xrt.runtime.bundle.manifest import Manifest

MAX_STUDIES, MAX_NOT_SCORED = 200, 2000
"""Studies shown with their overlays, and files without a score that are listed; the database holds all."""


def write_report(db: sqlite3.Connection, path: Path, *, incomplete: str = "") -> None:
    """Write the report of everything that the database holds; overlays are linked relative to it.

    `incomplete` says why that is not everything, empty where it is. Where the database does not hold the manifest of
    the bundle (no run, or one of an earlier version), there is no report, and one that is there is removed.
    """
    model = db.execute(
        "SELECT manifest, run.* FROM run JOIN bundle ON sha256 = bundle_sha256 ORDER BY id DESC LIMIT 1"
    ).fetchone()
    if model is None:
        path.unlink(missing_ok=True)
        return
    counts = dict(
        db.execute("SELECT status, COUNT(*) FROM image WHERE current AND gone = '' GROUP BY status").fetchall()
    )
    (gone,) = db.execute("SELECT COUNT(*) FROM image WHERE current AND gone != ''").fetchone()
    runs = db.execute("SELECT * FROM run ORDER BY id").fetchall()
    studies = db.execute("SELECT * FROM worklist LIMIT ?", (MAX_STUDIES,)).fetchall()
    (total,) = db.execute(
        "SELECT COUNT(DISTINCT study_id) FROM image WHERE current AND gone = '' AND status = 'ok'"
    ).fetchone()
    page = render_page(
        "xrt.runtime.screening",
        "report.html.j2",
        manifest=Manifest.model_validate_json(model["manifest"]),
        proof=json.loads(model["proof"]),
        incomplete=incomplete,
        gone=gone,
        run=model,
        runs=runs,
        left_out=json.loads(model["left_out"]),
        counts={status: counts.get(status, 0) for status in ("ok", "rejected", "failed")},
        studies=[{**dict(study), "images": _images(db, study["study_id"])} for study in studies],
        total_studies=total,
        positives=db.execute(
            "SELECT class, COUNT(*) AS images FROM finding JOIN image ON image.id = image_id"
            " WHERE current AND gone = '' AND positive GROUP BY class ORDER BY images DESC, class"
        ).fetchall(),
        not_scored=db.execute(
            "SELECT path, status, reason FROM image WHERE current AND gone = '' AND status != 'ok'"
            " ORDER BY status, path LIMIT ?",
            (MAX_NOT_SCORED,),
        ).fetchall(),
        filters={"on_one_line": on_one_line},
    )
    write_atomically(path, page)


def _images(db: sqlite3.Connection, study: int) -> list[dict[str, object]]:
    images = db.execute(
        "SELECT id, path, view, notes FROM image WHERE study_id = ? AND current AND gone = '' AND status = 'ok'"
        " ORDER BY path",
        (study,),
    ).fetchall()
    return [
        {
            **dict(image),
            "findings": db.execute(
                "SELECT * FROM finding WHERE image_id = ? ORDER BY positive DESC, probability DESC", (image["id"],)
            ).fetchall(),
        }
        for image in images
    ]
