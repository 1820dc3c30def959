"""Small chores, each written once: files, hashes, times, images as bytes, and text for messages.

The linter refuses their spelled-out forms elsewhere (`pyproject.toml` of each part).
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from xrt.runtime.errors import UsageError

RESULTS_NAME = "results.db"
HEATMAPS = "heatmaps"
_PRODUCTS = {RESULTS_NAME, "worklist.csv", "report.html", "health.json"}
SCRATCH = ".xrt-"
"""How the names of files begin that are not whole yet; a killed process may leave one behind."""
_SHOWN = 20  # names that a message lists: a folder of studies has thousands


# Files


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of `most` bytes or fewer.

    Raises OSError when it cannot be read, and ValueError, in words that follow the path, when it is larger or no
    regular file: a pipe or a device would block or never end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > most:
            raise ValueError(f"is over {most / 2**20:.0f} MiB, the limit")
        return file.read(status.st_size)


def image_files(path: Path) -> Iterator[Path]:
    """Every file under a folder in order of its path, or the file itself.

    Hidden ones and DICOMDIR are left out, and so is what a screening run writes into its folder (one that holds a
    `results.db`). Linked folders are followed, each once. A folder that cannot be listed is yielded itself, so that
    it is reported. Raises UsageError when there is nothing at `path`.
    """
    try:
        if not path.is_dir():
            if not path.exists():
                raise UsageError(f"there is no file or folder {path}")
            yield path
            return
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    unreadable_folders: list[str] = []
    real_paths: set[str] = set()

    def record(error: OSError) -> None:
        unreadable_folders.append(str(error.filename))

    for folder, folders, names in os.walk(path, followlinks=True, onerror=record):
        real = os.path.realpath(folder)
        if real in real_paths:
            folders.clear()
            continue
        real_paths.add(real)
        results = RESULTS_NAME in names
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not (results and name == HEATMAPS))
        for name in sorted(names):
            if not name.startswith(".") and name != "DICOMDIR" and not (results and is_product(name)):
                yield Path(folder, name)
    yield from map(Path, sorted(unreadable_folders))


def is_product(name: str) -> bool:
    """Whether a file of this name, beside a `results.db`, is what a screening run writes."""
    return name in _PRODUCTS or (name.startswith("results.") and name.endswith(".db"))


def require_writable(folder: Path, path: Path) -> None:
    """Raise UsageError, naming `path`, unless `folder` can be written to, or made."""
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(f"{path} cannot be written: {existing} is not a folder that this user may write to")


def require_empty(folder: Path) -> None:
    """Raise UsageError unless `folder` is absent or empty."""
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty: choose another --out, or remove it")


def write_atomically(path: Path, data: bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write beside `path` and rename into place: a reader, or a killed process, never leaves half a file.

    `data` may come in parts. With `sync` this holds after a power cut too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name that nobody can foresee, and that must be new: a planted link is not followed.
    scratch = path.with_name(f"{SCRATCH}{secrets.token_hex(8)}")
    try:
        with scratch.open("xb") as file:
            file.writelines((data,) if isinstance(data, bytes) else data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
    if sync:
        sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what killed processes left unfinished in a folder and below it."""
    for path in folder.rglob(f"{SCRATCH}*"):
        path.unlink(missing_ok=True)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file that nobody reads yet, and sync it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def move_into_place(scratch: Path, path: Path) -> None:
    """Sync a file that a library has written beside `path`, and rename it to `path`."""
    with scratch.open("rb+") as file:
        os.fsync(file.fileno())
    scratch.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can do it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def json_bytes(content: Any, *, allow_nan: bool = True) -> bytes:
    """Indented JSON with a last line end, as every JSON file of xrt is written.

    Without `allow_nan`, a figure that is not finite raises ValueError.
    """
    return (json.dumps(content, indent=2, allow_nan=allow_nan) + "\n").encode()


# Hashes and times


def sha256_of(data: bytes | str) -> str:
    """The SHA-256 in hexadecimal, as manifests record it; of text, that of its UTF-8 bytes."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


# Images and pages


def png_bytes(image: Any, *, level: int = 6) -> bytes:
    """A PNG file of a uint8 array [H, W] or [H, W, 3], or of a Pillow image; `level` is zlib's, 0 to 9."""
    import io

    from PIL import Image

    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def data_url(png: bytes) -> str:
    """A PNG file as an address that an HTML page can hold."""
    import base64

    return "data:image/png;base64," + base64.b64encode(png).decode()


def render_page(package: str, template: str, filters: dict[str, Any] | None = None, **values: Any) -> bytes:
    """An HTML page from `templates/` of a package; every value is escaped. Filters of one name are one function."""
    environment = _templates(package)
    environment.filters |= filters or {}
    return environment.get_template(template).render(**values).encode()


@functools.cache
def _templates(package: str) -> Any:
    """The templates of a package, each compiled once in a process."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    return Environment(
        loader=PackageLoader(package, "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )


# Text of messages


def on_one_line(path: str | os.PathLike[str]) -> str:
    """A path, or other text, as a report can hold it: what is no UTF-8, or cannot be printed, as an escape."""
    if isinstance(path, str) and path.isascii() and path.isprintable():
        return path
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: BaseException | str, *, skip: tuple[str, ...] = ()) -> str:
    """The first line of an error's text that says something; its type's name where none does.

    Lines that begin with one of `skip`, such as places in a library's source, are left out if there are others.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    informative = [line for line in lines if not line.startswith(skip)] if skip else lines
    return (informative or lines or [type(error).__name__])[0]


def comma_list(names: Sequence[str], most: int = _SHOWN) -> str:
    """Names for a message, separated by commas; of more than `most` the first, and how many follow."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"
