"""Finding files, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xrt.runtime.errors import UsageError

RESULTS_NAME = "results.db"


def image_files(path: Path) -> Iterator[Path]:
    """Every file under a folder in order of its path, or the file itself.

    Hidden ones and DICOMDIR are left out, and so is the output folder of a screening run (one that holds a
    `results.db`). Linked folders are followed, each once. A folder that cannot be listed is yielded itself, so that
    it is not lost in silence. Raises UsageError when there is nothing at `path`.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                raise UsageError(f"there is no file or folder {path}")
            yield path
            return
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    unlisted: list[str] = []
    visited: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True, onerror=lambda e: unlisted.append(str(e.filename))):
        real = os.path.realpath(folder)
        if real in visited or RESULTS_NAME in names:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name != "DICOMDIR":
                yield Path(folder, name)
    yield from map(Path, sorted(unlisted))


def on_one_line(path: str | os.PathLike[str]) -> str:
    """A path, or other text, as a report can hold it: what is no UTF-8, or cannot be printed, as an escape."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def require_writable(folder: Path, path: Path) -> None:
    """Raise UsageError, naming `path`, unless `folder` can be written to, or made."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{path} cannot be written: {there} is not a folder that this user may write to")


def write_durably(path: Path, data: bytes) -> None:
    """Write, sync and rename into place: after a crash the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system has that notion."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
