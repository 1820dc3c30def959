"""Finding files, and writing them so that a reader never sees half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from xrt.runtime.errors import UsageError


def image_files(path: Path) -> Iterator[Path]:
    """Every file under a folder in order of its path, or the file itself; hidden ones and DICOMDIR are left out.

    Raises UsageError when there is nothing at `path`.
    """
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise UsageError(f"there is no file or folder {path}")
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name != "DICOMDIR":
                yield Path(folder, name)


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
