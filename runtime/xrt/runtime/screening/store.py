"""`results.db`: what is known of every file, in SQLite. One writer; committed batch by batch."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from filelock import FileLock, Timeout

from xrt.runtime._io import RESULTS_NAME, utc_now
from xrt.runtime.errors import UsageError, XrtError
from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.session import OpenedSession

SCHEMA_VERSION = 1


class Study(NamedTuple):
    """What groups images: `key` is unique over all roots, `label` is what a person reads."""

    key: str
    label: str


class ResultsStore:
    """The database of one output folder. As a context manager it holds the folder's writer lock.

    SQLite's rollback journal is used, not WAL, since output folders lie on network file systems.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS_NAME
        self._lock = FileLock(str(folder / ".lock"))
        self._db: sqlite3.Connection | None = None

    def __enter__(self) -> ResultsStore:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UsageError(
                f"another xrt is writing to {self.path.parent}: wait for it, or choose another --out"
            ) from None
        try:
            self._db = _connect(self.path)
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

    def start_run(self, opened: OpenedSession, settings: Mapping[str, object]) -> int:
        """Record a new run and return its id. Raises UsageError when the folder holds another bundle's results."""
        bundle = opened.bundle
        other = self.db.execute("SELECT bundle FROM run WHERE bundle_sha256 != ? LIMIT 1", (bundle.sha256,)).fetchone()
        if other is not None:
            raise UsageError(f"{self.path.parent} holds results of another bundle ({other[0]}): choose another --out")
        with self.transaction():
            (run,) = self.db.execute(
                "INSERT INTO run (started, xrt_version, bundle, bundle_sha256, variant, backend, backend_version,"
                " execution_precision, settings) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                (
                    utc_now(),
                    version("xrt-runtime"),
                    bundle.manifest.name,
                    bundle.sha256,
                    opened.variant.file,
                    opened.backend.name,
                    opened.backend.version(),
                    opened.execution_precision,
                    json.dumps(dict(settings), default=str),
                ),
            ).fetchone()
        return run

    def finish_run(self, run: int) -> None:
        """Record that a run reached its end."""
        with self.transaction():
            self.db.execute("UPDATE run SET finished = ? WHERE id = ?", (utc_now(), run))

    def known(self, root: str, path: str) -> str:
        """The hash of the path's current content if it was scored or rejected; "" if it must be (re)done."""
        row = self.db.execute(
            "SELECT sha256 FROM image WHERE root = ? AND path = ? AND current AND status != 'failed'", (root, path)
        ).fetchone()
        return row[0] if row else ""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        with self.db:
            self.db.execute("BEGIN IMMEDIATE")
            yield

    def record(self, run: int, root: str, path: str, result: Result, study: Study, heatmaps: Mapping[str, str]) -> None:
        """Write one file's result inside a transaction: its row becomes the path's current one.

        The same path with the same content keeps its one row, which is brought up to date. `heatmaps` maps class
        names to files relative to the folder.
        """
        db = self.db
        db.execute("UPDATE image SET current = 0 WHERE root = ? AND path = ? AND current", (root, path))
        study_id = self._study(study, result.study_uid) if result.status == "ok" else None
        (image,) = db.execute(
            "INSERT INTO image (root, path, sha256, status, reason, notes, width, height, view, sop_instance_uid,"
            " study_id, run_id, current, recorded) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?)"
            " ON CONFLICT (root, path, sha256) DO UPDATE SET status = excluded.status, reason = excluded.reason,"
            " notes = excluded.notes, width = excluded.width, height = excluded.height, view = excluded.view,"
            " sop_instance_uid = excluded.sop_instance_uid, study_id = excluded.study_id, run_id = excluded.run_id,"
            " current = 1, recorded = excluded.recorded RETURNING id",
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

    def _study(self, study: Study, study_uid: str) -> int:
        self.db.execute(
            "INSERT INTO study (key, label, study_uid) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (*study, study_uid)
        )
        return self.db.execute("SELECT id FROM study WHERE key = ?", (study.key,)).fetchone()[0]


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


def _connect(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        (schema_version,) = db.execute("PRAGMA user_version").fetchone()
        if schema_version == 0:
            schema = files("xrt.runtime.screening").joinpath("schema.sql").read_text()
            db.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
        elif schema_version != SCHEMA_VERSION:
            raise XrtError(
                f"{path} has schema version {schema_version}, this xrt writes {SCHEMA_VERSION}: choose another --out"
            )
    except sqlite3.Error as error:
        raise XrtError(f"{path} cannot be used: {error}; choose another --out") from error
    return db
