"""What leaves the record after a while: rows with their findings and maps, heatmaps, events, earlier copies."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from xrt.runtime._io import RESULTS_NAME, utc_now
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.database import patiently
from xrt.runtime.screening.overlays import require_no_link
from xrt.runtime.screening.report import write_report
from xrt.runtime.screening.runs import unfinished
from xrt.runtime.screening.store import ResultsStore
from xrt.runtime.screening.worklist import write_worklist

Scope = Literal["superseded", "gone", "all"]
_CONDITIONS: dict[Scope, str] = {
    "superseded": "NOT current",
    "gone": "(NOT current OR gone != '')",
    "all": "1",
}


@dataclass
class PurgeSummary:
    """What was removed, or would be."""

    images: int = 0
    heatmaps: int = 0
    events: int = 0
    copies: int = 0


def purge(out: Path, days: float, *, scope: Scope = "gone", dry_run: bool = False) -> PurgeSummary:
    """Remove what was recorded over `days` days ago, and write worklist and report again.

    `scope`: rows whose file has other content now (`superseded`), those and the ones whose file is no longer there
    (`gone`), or every row (`all`). With the rows go their findings, maps and heatmaps, studies without images, events
    that were delivered, and copies of the database from before a change of its schema. What is removed is overwritten
    in the database. Files themselves are never touched: one that is still there is screened again by the next run.
    Raises UsageError when `out` holds no results.
    """
    if not (out / RESULTS_NAME).is_file():
        raise UsageError(f"{out} holds no results: name the --out folder of `xrt triage`")
    if days < 0:
        raise UsageError(f"days must be 0 or more, not {days:g}")
    before = (datetime.fromisoformat(utc_now()) - timedelta(days=days)).isoformat(timespec="seconds")
    with ResultsStore(out) as store:
        images = f"SELECT id FROM image WHERE {_CONDITIONS[scope]} AND recorded < :before"
        delivered = "delivered IS NOT NULL AND delivered < :before"
        copies = [
            copy for copy in out.glob("results.schema*.db")
            if datetime.fromtimestamp(copy.stat().st_mtime, datetime.fromisoformat(before).tzinfo).isoformat() < before
        ]  # fmt: skip
        unused = _unused_heatmaps(store.db, out, images, before)
        summary = PurgeSummary(
            _count(store.db, f"SELECT COUNT(*) FROM image WHERE id IN ({images})", before),
            len(unused),
            _count(store.db, f"SELECT COUNT(*) FROM outbox WHERE {delivered}", before),
            len(copies),
        )
        if dry_run:
            return summary
        # Files first: a purge that is killed leaves rows, by which the next one finds what is left.
        for file in (*unused, *copies):
            file.unlink(missing_ok=True)
        store.db.execute("PRAGMA secure_delete = ON")
        with store.transaction():
            store.db.execute(f"DELETE FROM image WHERE id IN ({images})", {"before": before})
            store.db.execute(f"DELETE FROM outbox WHERE {delivered}", {"before": before})
            store.db.execute("DELETE FROM study WHERE id NOT IN (SELECT study_id FROM image WHERE study_id NOTNULL)")
            store.db.execute(
                "DELETE FROM run WHERE started < :before AND id NOT IN (SELECT run_id FROM image)"
                " AND id < (SELECT MAX(id) FROM run)",
                {"before": before},
            )
        incomplete = unfinished(store)
        write_worklist(store.db, out / "worklist.csv", incomplete=incomplete)
        write_report(store.db, out / "report.html", incomplete=incomplete)
        patiently(lambda: store.db.execute("VACUUM"))
    return summary


def _count(db: sqlite3.Connection, query: str, before: str) -> int:
    return db.execute(query, {"before": before}).fetchone()[0]


def _unused_heatmaps(db: sqlite3.Connection, out: Path, images: str, before: str) -> list[Path]:
    """Overlays to which no row refers once the rows of a query are gone. Raises OSError where a folder is a link."""
    for folder in (out / "heatmaps").glob("*"):
        require_no_link(folder)
    kept = {
        name
        for (name,) in db.execute(
            f"SELECT heatmap FROM finding WHERE heatmap != '' AND image_id NOT IN ({images})", {"before": before}
        )
    }
    return [file for file in (out / "heatmaps").glob("*/*.*") if file.relative_to(out).as_posix() not in kept]
