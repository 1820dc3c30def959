"""Pseudonyms for paths and identifiers that may contain names."""

from __future__ import annotations

import hmac
import os
from pathlib import Path, PurePosixPath

from xrt.runtime._io import write_atomically
from xrt.runtime.cache import secret_for

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".dcm", ".dicom"}


class Redaction:
    """Pseudonyms for paths that may contain names: a path always gets the same one in the same output folder.

    Every component is replaced by a keyed hash, so that folders still group. The output folder holds a number that says
    which key; the key itself is this user's, outside the folder, so that the folder can be handed out. (Folders of
    earlier versions hold their key: it must be removed before they are handed out.)

    Raises XrtError when this user's key cannot be read or made.
    """

    def __init__(self, out: Path) -> None:
        earlier, file = out / ".redaction-key", out / ".redaction-id"
        if earlier.is_file() and not earlier.is_symlink():
            self._key = earlier.read_bytes()
            return
        if not file.exists():
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, os.urandom(16).hex().encode())
        self._key = secret_for(f"redaction {file.read_text().strip()}")

    def __call__(self, path: str) -> str:
        """The pseudonym of a path."""
        pure = PurePosixPath(path)
        parts = [self._pseudonym(part) for part in (*pure.parent.parts, *self._stem_parts(pure.name))]
        folders, last = parts[: len(pure.parent.parts)], parts[len(pure.parent.parts) :]
        return "/".join([*folders, "_".join(last) + self._suffix(pure.name)])

    def folder(self, path: str) -> str:
        """The pseudonym of a folder: that of any path in it begins with the same."""
        return "/".join(map(self._pseudonym, PurePosixPath(path).parts))

    def identifier(self, uid: str) -> str:
        """The pseudonym of a study or instance UID; of none, none."""
        return uid and self._pseudonym(f"uid {uid}")

    def _stem_parts(self, name: str) -> list[str]:
        stem = name.removesuffix(self._suffix(name))
        cut = max(stem.rfind("_"), stem.rfind("-"))
        # Both sides of the last separator, as `--study-by stem` groups them.
        return [stem[:cut], stem[cut + 1 :]] if cut > 0 else [stem]

    @staticmethod
    def _suffix(name: str) -> str:
        suffix = PurePosixPath(name).suffix
        return suffix if suffix.lower() in _SUFFIXES else ""

    def _pseudonym(self, part: str) -> str:
        return hmac.new(self._key, part.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:12]
