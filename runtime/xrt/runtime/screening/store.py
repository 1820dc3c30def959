"""`results.db`: what is known of every file. One writer; committed batch by batch."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from filelock import FileLock, Timeout

from xrt.runtime._io import RESULTS_NAME, utc_now
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.database import connect, transaction
from xrt.runtime.screening.maps import StoredMaps
from xrt.runtime.screening.result import Finding, Result
from xrt.runtime.session import OpenedSession

DECIDING = ("skip_body_part_check", "content_checks", "study_by", "redact_paths", "heatmaps")
"""Settings that decide what a row says: a folder is continued with those that it was begun with."""


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
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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

    def start_run(self, opened: OpenedSession, settings: Mapping[str, object]) -> int:
        """Record a new run and return its id.

        Raises UsageError when the folder holds another bundle's results, or results made in another way.
        """
        bundle = opened.bundle
        self._require_same(opened, settings)
        with self.transaction():
            self.db.execute(
                "INSERT INTO bundle (sha256, manifest) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (bundle.sha256, bundle.manifest.model_dump_json()),
            )
            (run,) = self.db.execute(
                "INSERT INTO run (started, xrt_version, bundle, bundle_sha256, variant, backend, backend_version,"
                " execution_precision, settings, proof) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
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
                    json.dumps(_proof(opened)),
                ),
            ).fetchone()
        return run

    def roots(self) -> tuple[str, ...]:
        """The folders under which there are rows."""
        return tuple(root for (root,) in self.db.execute("SELECT DISTINCT root FROM image WHERE current"))

    def has_row(self, root: str, path: str) -> bool:
        """Whether a path has a current row."""
        query = "SELECT 1 FROM image WHERE root = ? AND path = ? AND current"
        return self.db.execute(query, (root, path)).fetchone() is not None

    def _require_same(self, opened: OpenedSession, settings: Mapping[str, object]) -> None:
        """Raise UsageError unless the run before, if any, was of this bundle and made in the same way."""
        last = self.db.execute("SELECT * FROM run ORDER BY id DESC LIMIT 1").fetchone()
        if last is None:
            return
        where = self.path.parent
        if last["bundle_sha256"] != opened.bundle.sha256:
            raise UsageError(f"{where} holds results of another bundle ({last['bundle']}): choose another --out")
        before, now = json.loads(last["settings"]), json.loads(json.dumps(dict(settings), default=str))
        differences = [
            f"{name.replace('_', '-')} was {before[name]}, now {now[name]}"
            for name in DECIDING
            if name in before and name in now and before[name] != now[name]
        ]
        executed = ("variant", opened.variant.file), ("backend", opened.backend.name)
        executed = *executed, ("execution_precision", opened.execution_precision)
        differences += [f"{name} was {last[name]}, now {value}" for name, value in executed if last[name] != value]
        if differences:
            raise UsageError(
                f"{where} was begun with other settings ({'; '.join(differences)}): resume with the same, or choose "
                "another --out"
            )

    def note_listed(self, run: int, listed: int, left_out: Mapping[str, int]) -> None:
        """Record how many files were found, and how many of them were left out, by reason."""
        with self.transaction():
            self.db.execute(
                "UPDATE run SET listed = ?, left_out = ? WHERE id = ?", (listed, json.dumps(dict(left_out)), run)
            )

    def finish_run(self, run: int, *, interrupted: str = "") -> None:
        """Record that a run reached its end, or why it did not. Everything else must be written before."""
        with self.transaction():
            if interrupted:
                self.db.execute("UPDATE run SET interrupted = ? WHERE id = ?", (interrupted, run))
            else:
                self.db.execute("UPDATE run SET finished = ? WHERE id = ?", (utc_now(), run))

    def incomplete(self) -> str:
        """Why the last run has not seen everything, empty where it has."""
        last = self.db.execute("SELECT finished, interrupted FROM run ORDER BY id DESC LIMIT 1").fetchone()
        return "" if last is None or last["finished"] else last["interrupted"] or "broken off"

    def known(self, root: str, path: str) -> str:
        """The hash of the path's current content if it was scored or rejected; "" if it must be (re)done."""
        row = self.db.execute(
            "SELECT sha256 FROM image WHERE root = ? AND path = ? AND current AND status != 'failed'", (root, path)
        ).fetchone()
        return row[0] if row else ""

    def identities(self) -> dict[tuple[str, str], str]:
        """Root and path of every current row, with the hash of its content."""
        return {
            (row[0], row[1]): row[2] for row in self.db.execute("SELECT root, path, sha256 FROM image WHERE current")
        }

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


def _proof(opened: OpenedSession) -> dict[str, object]:
    """What a report repeats of the proof of what is run."""
    certificate = opened.certificate
    return {
        "warning": opened.warning,
        "signature": opened.bundle.signature,
        "verdict": certificate.verdict,
        "images": certificate.evidence.images,
        "source": certificate.evidence.source,
        "reference": certificate.evidence.reference,
        "unmeasured": list(certificate.unmeasured),
        "from_this_machine": opened.from_this_machine,
    }
