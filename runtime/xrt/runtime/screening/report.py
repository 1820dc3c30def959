"""`report.html`: the worklist with its overlays, what was not scored and why, and the model's limits."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from xrt.runtime._io import render_page, write_atomically
from xrt.runtime.session import OpenedSession

MAX_STUDIES = 200
"""Studies shown with their overlays; the worklist and the database hold all."""


def write_report(db: sqlite3.Connection, opened: OpenedSession, path: Path) -> None:
    """Write the report of everything that the database holds; overlays are linked relative to it."""
    counts = dict(db.execute("SELECT status, COUNT(*) FROM image WHERE current GROUP BY status").fetchall())
    studies = db.execute("SELECT * FROM worklist LIMIT ?", (MAX_STUDIES,)).fetchall()
    total = db.execute("SELECT COUNT(*) FROM worklist").fetchone()[0]
    page = render_page(
        "xrt.runtime.screening",
        "report.html.j2",
        manifest=opened.manifest,
        bundle_sha256=opened.bundle.sha256,
        opened=opened,
        backend_version=opened.backend.version(),
        run=db.execute("SELECT * FROM run ORDER BY id DESC LIMIT 1").fetchone(),
        counts={status: counts.get(status, 0) for status in ("ok", "rejected", "failed")},
        studies=[{**dict(study), "images": _images(db, study["study_id"])} for study in studies],
        total_studies=total,
        positives=db.execute(
            "SELECT class, COUNT(*) AS images FROM finding JOIN image ON image.id = image_id"
            " WHERE current AND positive GROUP BY class ORDER BY images DESC"
        ).fetchall(),
        not_scored=db.execute(
            "SELECT path, status, reason FROM image WHERE current AND status != 'ok' ORDER BY status, path"
        ).fetchall(),
    )
    write_atomically(path, page)


def _images(db: sqlite3.Connection, study: int) -> list[dict[str, object]]:
    images = db.execute(
        "SELECT id, path, view, notes FROM image WHERE study_id = ? AND current AND status = 'ok' ORDER BY path",
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
