"""`worklist.csv`: studies in order of urgency.

The urgency of a study is the highest, over its current images and over classes of weight above 0, of the class's
weight times the excess of its calibrated probability p over its threshold t, (p - t) / (1 - t). Where nothing is
above its threshold it is the highest (p - t) / t, which is negative and unweighted: the nearest miss comes first.
"""

from __future__ import annotations

import csv
import io
import sqlite3
from pathlib import Path

from xrt.runtime._io import write_atomically

HEADER = ("rank", "study", "urgency", "images", "findings", "notes", "files")


def worklist_rows(db: sqlite3.Connection) -> list[dict[str, object]]:
    """One row per study, most urgent first."""
    rows = []
    for rank, study in enumerate(db.execute("SELECT * FROM worklist").fetchall(), start=1):
        images = db.execute(
            "SELECT path, notes FROM image WHERE study_id = ? AND current AND status = 'ok' ORDER BY path",
            (study["study_id"],),
        ).fetchall()
        findings = db.execute(
            "SELECT class, MAX(probability) AS probability FROM finding JOIN image ON image.id = image_id"
            " WHERE study_id = ? AND current AND positive GROUP BY class ORDER BY MAX(finding.urgency) DESC",
            (study["study_id"],),
        ).fetchall()
        rows.append(
            {
                "rank": rank,
                "study": study["study"],
                "urgency": None if study["urgency"] is None else round(study["urgency"], 4),
                "images": study["images"],
                "findings": "; ".join(f"{f['class']} {f['probability']:.2f}" for f in findings),
                "notes": "; ".join(sorted({image["notes"] for image in images if image["notes"]})),
                "files": "; ".join(image["path"] for image in images),
            }
        )
    return rows


def write_worklist(db: sqlite3.Connection, path: Path) -> None:
    """Write the worklist as CSV. Cells that a spreadsheet would take for a formula are quoted with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEADER)
    for row in worklist_rows(db):
        writer.writerow([_harmless(row[name]) for name in HEADER])
    write_atomically(path, text.getvalue().encode())


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
