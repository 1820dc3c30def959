"""`results.db`: what is known of every file. One writer; committed batch by batch."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from filelock import FileLock, Timeout

from xrt.runtime._io import RESULTS_NAME, utc_now
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.database import connect, transaction
from xrt.runtime.screening.maps import StoredMaps
from xrt.runtime.screening.result import Finding, Result

log = logging.getLogger(__name__)

Identity = tuple[str, str]
"""Root and path, as recorded."""


class Study(NamedTuple):
    """What groups images: `key` is unique over all roots, `label` is what a person reads."""

    key: str
    label: str
    uid: str = ""


class ResultsStore:
    """The database of one output folder. As a context manager it holds the folder's writer lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS_NAME
        self._lock = FileLock(str(folder / ".lock"))
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> ResultsStore:
        _close_to_others(self.path.parent)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"another xrt is writing to {self.path.parent}: wait for it, or choose another --out"
            ) from None
        try:
            self._db = connect(self.path)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        self._lock.release()

    @property
    def db(self) -> sqlite3.Connection:
        """The open connection. Raises RuntimeError outside the `with` block."""
        if self._db is None:
            raise RuntimeError("a ResultsStore is used inside its `with` block")
        return self._db

    def roots(self) -> tuple[str, ...]:
        """The folders under which there are rows."""
        return tuple(root for (root,) in self.db.execute("SELECT DISTINCT root FROM image WHERE current"))

    def has_row(self, root: str, path: str) -> bool:
        """Whether a path has a current row."""
        query = "SELECT 1 FROM image WHERE root = ? AND path = ? AND current"
        return self.db.execute(query, (root, path)).fetchone() is not None

    def known(self, root: str, path: str) -> str:
        """The hash of the path's current content if it was scored or rejected; "" if it must be (re)done."""
        row = self.db.execute(
            "SELECT sha256 FROM image WHERE root = ? AND path = ? AND current AND status != 'failed'", (root, path)
        ).fetchone()
        return row[0] if row else ""

    def each_identity(self) -> Iterator[tuple[Identity, str]]:
        """Root and path of every current row, with the hash of its content."""
        for row in self.db.execute("SELECT root, path, sha256 FROM image WHERE current"):
            yield (row[0], row[1]), row[2]

    def identities(self) -> dict[Identity, str]:
        """All of them at once."""
        return dict(self.each_identity())

    def rename_root(self, before: str, after: str) -> None:
        """A folder was renamed or mounted elsewhere: its rows are those of the same files there."""
        with self.transaction():
            self.db.execute("UPDATE image SET root = ? WHERE root = ?", (after, before))

    def mark_present(self, root: str, path: str) -> None:
        """Inside a transaction: a path that was gone is there again, with the content that it had."""
        self.db.execute(
            "UPDATE image SET gone = '' WHERE root = ? AND path = ? AND current AND gone != ''", (root, path)
        )

    def mark_gone(self, paths: Iterable[tuple[str, str]]) -> int:
        """Mark paths that are no longer there; return how many are new among them.

        One whose content is now at a path of its own counts as moved.
        """
        with self.transaction():
            cursor = self.db.executemany(
                "UPDATE image SET gone = CASE WHEN EXISTS (SELECT 1 FROM image other WHERE other.sha256 = image.sha256"
                " AND other.current AND other.gone = '' AND other.id != image.id AND other.sha256 != '')"
                " THEN 'moved' ELSE 'removed' END WHERE root = ? AND path = ? AND current AND gone = ''",
                list(paths),
            )
        return cursor.rowcount

    def doubles(self, run: int) -> list[Identity]:
        """Rows whose content a run has recorded at another place, in another folder: candidates for having moved."""
        return [
            (row[0], row[1])
            for row in self.db.execute(
                "SELECT root, path FROM image WHERE current AND gone = '' AND sha256 != ''"
                " AND root NOT IN (SELECT DISTINCT root FROM image WHERE run_id = :run)"
                " AND sha256 IN (SELECT sha256 FROM image WHERE run_id = :run AND current AND gone = '')",
                {"run": run},
            )
        ]

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing; waits for readers."""
        return transaction(self.db)

    def record(
        self,
        run: int,
        root: str,
        path: str,
        result: Result,
        study: Study,
        heatmaps: Mapping[str, str],
        maps: StoredMaps | None = None,
    ) -> None:
        """Write one file's result inside a transaction: its row becomes the path's current one.

        The same path with the same content keeps its one row, which is brought up to date. `heatmaps` maps class
        names to files relative to the folder; `maps` are the raw ones.
        """
        db = self.db
        db.execute("UPDATE image SET current = 0 WHERE root = ? AND path = ? AND current", (root, path))
        study_id = self._study(study) if result.status == "ok" else None
        (image,) = db.execute(
            "INSERT INTO image (root, path, sha256, status, reason, notes, width, height, view, sop_instance_uid,"
            " study_id, run_id, current, gone, recorded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, '', ?)"
            " ON CONFLICT (root, path, sha256) DO UPDATE SET status = excluded.status, reason = excluded.reason,"
            " notes = excluded.notes, width = excluded.width, height = excluded.height, view = excluded.view,"
            " sop_instance_uid = excluded.sop_instance_uid, study_id = excluded.study_id, run_id = excluded.run_id,"
            " current = 1, gone = '', recorded = excluded.recorded RETURNING id",
            (
                root,
                path,
                result.sha256,
                result.status,
                result.reason,
                "; ".join(result.notes),
                result.width or None,
                result.height or None,
                result.view,
                result.sop_instance_uid,
                study_id,
                run,
                utc_now(),
            ),
        ).fetchone()
        db.execute("DELETE FROM finding WHERE image_id = ?", (image,))
        db.executemany(
            "INSERT INTO finding (image_id, class, logit, probability, threshold, positive, urgency, box_x, box_y,"
            " box_width, box_height, heatmap) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(image, *_finding_row(finding), heatmaps.get(finding.class_name, "")) for finding in result.findings],
        )
        db.execute("DELETE FROM map WHERE image_id = ?", (image,))
        if maps is not None:
            db.execute(
                "INSERT INTO map (image_id, classes, height, width, scales, cells) VALUES (?, ?, ?, ?, ?, ?)",
                (image, *maps),
            )

    def note_heatmaps(self, image: int, heatmaps: Mapping[str, str]) -> None:
        """Inside a transaction: the files of an image's heatmaps, by class name."""
        self.db.executemany(
            "UPDATE finding SET heatmap = ? WHERE image_id = ? AND class = ?",
            [(file, image, name) for name, file in heatmaps.items()],
        )

    def _study(self, study: Study) -> int:
        self.db.execute("INSERT INTO study (key, label, study_uid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", study)
        return self.db.execute("SELECT id FROM study WHERE key = ?", (study.key,)).fetchone()[0]


def _close_to_others(folder: Path) -> None:
    """Make a folder of this user's that nobody else may enter; of one that is there, its group keeps what it has."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "geteuid") and status.st_uid == os.geteuid() and status.st_mode & 0o007:
        folder.chmod(stat.S_IMODE(status.st_mode) & ~0o007)
        log.info("%s is closed to other users now", folder)


def _finding_row(finding: Finding) -> tuple[object, ...]:
    return (
        finding.class_name,
        finding.logit,
        finding.probability,
        finding.threshold,
        finding.positive,
        finding.urgency,
        *(finding.box or (None,) * 4),
    )
