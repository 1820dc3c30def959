"""The SQLite file of a screening folder: opened, checked, brought to this schema, and never given up to a reader."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from xrt.runtime._io import move_into_place
from xrt.runtime.errors import XrtError
from xrt.runtime.screening.health import notify_systemd

SCHEMA_VERSION = 3
_APPLICATION = 0x78727401
"""SQLite's application_id of a results database: `xrt`, 1."""
Output = TypeVar("Output")
_OURS = {"run", "study", "image", "finding", "outbox"}
_LOCKED_SECONDS, _ATTEMPT_SECONDS = 600.0, 5.0
"""How long a reader may hold the file before a run gives up, and after how long the first word about it is said."""
log = logging.getLogger(__name__)


def connect(path: Path) -> sqlite3.Connection:
    """The database at `path`, made where there is none, checked and brought to this schema where there is one.

    SQLite's rollback journal is used, not WAL, since output folders lie on network file systems. Before the schema
    changes, the file is copied beside itself. Raises XrtError for what is damaged, of a newer xrt, or not of xrt.
    """
    try:
        if not path.exists():
            _create(path)
        elif not path.stat().st_size:
            raise XrtError(f"{path} is empty: it was damaged by something else; choose another --out")
        db = sqlite3.connect(path, isolation_level=None, timeout=_ATTEMPT_SECONDS)
        db.row_factory = sqlite3.Row
        _require_ours(path)
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        _upgrade(db, path)
        (sound,) = patiently(lambda: db.execute("PRAGMA quick_check(1)").fetchone())
        if sound != "ok":
            raise XrtError(f"{path} is damaged ({sound}): restore it from a copy, or choose another --out")
    except sqlite3.Error as error:
        raise XrtError(f"{path} cannot be used: {error}; choose another --out") from error
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. A reader that holds the file delays the end, and does not break it."""
    patiently(lambda: db.execute("BEGIN IMMEDIATE"))
    try:
        yield
        patiently(lambda: db.execute("COMMIT"))
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def patiently(execute: Callable[[], Output]) -> Output:
    """Execute a statement while other processes read; a minute or ten of waiting are said, and end in XrtError."""
    started = time.monotonic()
    while True:
        try:
            return execute()
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - started
            if "locked" not in str(error) and "busy" not in str(error):
                raise
            if waited > _LOCKED_SECONDS:
                raise XrtError(
                    f"another process has held results.db for {waited / 60:.0f} minutes: close it"
                ) from error
            log.warning("another process holds results.db: waiting for it (%.0f s)", waited)
            notify_systemd("WATCHDOG=1")  # it waits, and does not hang


def _create(path: Path) -> None:
    """Whole or absent: a database that is killed while it is made must not look like an empty one."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.unlink(missing_ok=True)
    db = sqlite3.connect(scratch, isolation_level=None)
    try:
        db.executescript(f"BEGIN;\n{_script('schema.sql')}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
        db.execute(f"PRAGMA application_id = {_APPLICATION}")
    finally:
        db.close()
    move_into_place(scratch, path)


def _require_ours(path: Path) -> None:
    """Raise XrtError for a database of something else, which is not touched, not even by its journal."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        db.close()
    if application not in (0, _APPLICATION) or not tables >= _OURS:
        raise XrtError(f"{path} is a database of something else: choose another --out")


def _upgrade(db: sqlite3.Connection, path: Path) -> None:
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    if not 1 <= version < SCHEMA_VERSION:
        raise XrtError(f"{path} has schema version {version}, this xrt writes {SCHEMA_VERSION}: choose another --out")
    copy = path.with_name(f"{path.stem}.schema{version}{path.suffix}")
    scratch = copy.with_name(f".{copy.name}.new")
    scratch.unlink(missing_ok=True)
    target = sqlite3.connect(scratch)
    try:
        db.backup(target)
    finally:
        target.close()
    move_into_place(scratch, copy)
    steps = "\n".join(_script(f"schema_{step}.sql") for step in range(version + 1, SCHEMA_VERSION + 1))
    db.executescript(f"BEGIN;\n{steps}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
    db.execute(f"PRAGMA application_id = {_APPLICATION}")
    log.warning("%s was brought to schema %d; its earlier form is kept in %s", path, SCHEMA_VERSION, copy.name)


def _script(name: str) -> str:
    return files("xrt.runtime.screening").joinpath(name).read_text()
