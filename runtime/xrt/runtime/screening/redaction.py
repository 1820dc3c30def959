"""Pseudonyms for paths that may contain names."""

from __future__ import annotations

import hmac
import os
from pathlib import Path, PurePosixPath

from xrt.runtime._io import write_atomically

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom"}


class Redaction:
    """Pseudonyms for paths that may contain names: a path always gets the same one in the same output folder.

    Every component is replaced by a keyed hash, so that folders still group; the key stays in the output folder.
    """

    def __init__(self, out: Path) -> None:
        file = out / ".redaction-key"
        if not file.exists():
            write_atomically(file, os.urandom(32))
        self._key = file.read_bytes()

    def __call__(self, path: str) -> str:
        """The pseudonym of a path."""
        pure = PurePosixPath(path)
        parts = [self._pseudonym(part) for part in (*pure.parent.parts, *self._stem_parts(pure.name))]
        folders, last = parts[: len(pure.parent.parts)], parts[len(pure.parent.parts) :]
        return "/".join([*folders, "_".join(last) + self._suffix(pure.name)])

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
        return hmac.new(self._key, part.encode(), "sha256").hexdigest()[:12]
