"""`report.html`: the worklist with its overlays, what was not scored and why, and the model's limits."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.files import write_durably
from xrt.runtime.opening import OpenedSession

MAX_STUDIES = 200
"""Studies shown with their overlays; the worklist and the database hold all."""


def write_report(db: sqlite3.Connection, bundle: Bundle, opened: OpenedSession, path: Path) -> None:
    """Write the report of everything that the database holds; overlays are linked relative to it."""
    environment = Environment(
        loader=PackageLoader("xrt.runtime.screening", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    counts = dict(db.execute("SELECT status, COUNT(*) FROM image WHERE current GROUP BY status").fetchall())
    studies = db.execute("SELECT * FROM worklist LIMIT ?", (MAX_STUDIES,)).fetchall()
    total = db.execute("SELECT COUNT(*) FROM worklist").fetchone()[0]
    html = environment.get_template("report.html.j2").render(
        manifest=bundle.manifest,
        bundle_sha256=bundle.sha256,
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
    write_durably(path, html.encode())


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
