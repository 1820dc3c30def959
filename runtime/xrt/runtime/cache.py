"""Where this machine keeps what it made for itself: certificates, calibrations, engines.

A cache may be deleted at any time; what was in it is made again. What is in it decides numbers, so nobody else may
write it: a folder or file that belongs to another user, or that others may write, is not used. Certificates and
calibrations end with a code (HMAC, RFC 2104, with SHA-256) by a key that only this user can read, and the record beside
an engine holds one, so that what was put there in another way is not used either. On Windows, owners are not checked.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
from pathlib import Path

import platformdirs

from xrt.runtime._io import read_regular, write_atomically
from xrt.runtime.errors import XrtError

VARIABLE = "XRT_CACHE_DIR"
KEY_VARIABLE = "XRT_CACHE_KEY"
_KEY_BYTES, _CODE_BYTES = 32, 32
_MOST = 2**31
log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """The folder of this machine's cache called `name`: under $XRT_CACHE_DIR, or where the system keeps caches."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("xrt", appauthor=False)) / name


def key_path() -> Path:
    """The file of this user's key: $XRT_CACHE_KEY, or `cache.key` where the system keeps settings."""
    variable = os.environ.get(KEY_VARIABLE)
    return Path(variable) if variable else Path(platformdirs.user_config_dir("xrt", appauthor=False)) / "cache.key"


def not_private(path: Path, *, secret: bool = False) -> str | None:
    """Why a file or folder cannot be trusted, in words that follow its path; None when only this user may write it.

    With `secret`, only this user may read it, too.
    """
    if not hasattr(os, "geteuid"):
        return None
    try:
        status = path.lstat()
    except OSError as error:
        return f"cannot be examined ({error.strerror})"
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if status.st_uid != os.geteuid():
        return "belongs to another user"
    if status.st_mode & (0o077 if secret else 0o022):
        return (
            f"may be {'read' if secret else 'written'} by others (chmod {'600' if secret else 'go-w'} makes it yours)"
        )
    return None


def read_private(path: Path) -> bytes | None:
    """What `write_private` wrote to `path`; None where there is nothing, or what is there was put there otherwise."""
    if not path.exists():
        return None
    for place in (path.parent.parent, path.parent, path):
        if (reason := not_private(place)) is not None:
            log.warning("%s %s: it is not used", place, reason)
            return None
    key = _key(make=False)
    try:
        data = read_regular(path, _MOST)
    except (OSError, ValueError):
        return None
    content, code = data[:-_CODE_BYTES], data[-_CODE_BYTES:]
    return content if key is not None and hmac.compare_digest(code, _code(key, path, content)) else None


def write_private(path: Path, data: bytes) -> None:
    """Keep `data` in the cache folder of `path`. Where that or the key cannot be written, nothing is kept."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = _key(make=True)
        if key is not None and all(not_private(place) is None for place in (path.parent.parent, path.parent)):
            write_atomically(path, data + _code(key, path, data))
            path.chmod(0o600)
    except OSError:
        return


def code_for(path: Path, content: bytes, *, make: bool = True) -> str | None:
    """The code of this user's key for `content` at `path`, in hexadecimal digits; None where there is no key.

    With `make`, the key is made when it is first needed. Raises OSError when it cannot be.
    """
    key = _key(make=make)
    return None if key is None else _code(key, path, content).hex()


def secret_for(purpose: str) -> bytes:
    """A secret of this user for one purpose, the same every time. Raises XrtError when there can be no key."""
    try:
        key = _key(make=True)
    except OSError as error:
        raise XrtError(f"{key_path()} cannot be made: {error.strerror}; point {KEY_VARIABLE} elsewhere") from error
    if key is None:
        raise XrtError(f"{key_path()} cannot be used: only this user may read it (chmod 600)")
    return hmac.digest(key, purpose.encode(), "sha256")


def _code(key: bytes, path: Path, content: bytes) -> bytes:
    """The code of an entry: its kind and name belong to it, so that entries cannot be exchanged."""
    return hmac.digest(key, f"{path.parent.name}/{path.name}\0".encode() + content, "sha256")


def _key(*, make: bool) -> bytes | None:
    """This user's key, made when it is first needed; None where there is none, or it is not secret."""
    path = key_path()
    if make and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            pass  # another process has just made it
        else:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
    if not path.exists():
        return None
    if (reason := not_private(path, secret=True)) is not None:
        log.warning("%s %s: no cache is used", path, reason)
        return None
    key = path.read_bytes()
    return key if len(key) == _KEY_BYTES else None
