"""Pseudonyms for paths and identifiers that may contain names."""

from __future__ import annotations

import hmac
import os
from pathlib import Path, PurePosixPath

from xrt.runtime._io import write_atomically
from xrt.runtime.cache import secret_for
from xrt.runtime.errors import XrtError

_FORM = "2"
"""Of the pseudonyms, which a folder keeps."""
_DIGITS = 20
"""Of a keyed hash: 80 bits, so that among a billion names two alike are as good as impossible."""
_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".dcm", ".dicom"}


class Redaction:
    """Pseudonyms for paths that may contain names: a path always gets the same one in the same output folder.

    Every component is replaced by a keyed hash, so that folders still group. The output folder holds a number that says
    which key; the key itself is this user's, outside the folder, so that the folder can be handed out.

    Raises XrtError when this user's key cannot be read or made, and for folders of earlier versions, whose pseudonyms
    were others.
    """

    def __init__(self, out: Path) -> None:
        earlier, file = out / ".redaction-key", out / ".redaction-id"
        if earlier.exists():
            raise XrtError(
                f"{out} holds the key of an earlier version's pseudonyms: remove {earlier.name} before the folder is "
                "handed out, and choose another --out to go on"
            )
        if not file.exists():
            out.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(file, f"{_FORM} {os.urandom(16).hex()}".encode())
        form, _, number = file.read_text().strip().rpartition(" ")
        if form != _FORM:
            raise XrtError(f"{out} has pseudonyms of an earlier version: choose another --out")
        self._key = secret_for(f"redaction {number}")

    def __call__(self, path: str) -> str:
        """The pseudonym of a path."""
        pure = PurePosixPath(path)
        suffix = self._suffix(pure.name)
        stem = pure.name.removesuffix(suffix)
        cut = max(stem.rfind("_"), stem.rfind("-"))
        # Both sides of the last separator and itself, as `--study-by stem` groups them.
        last = f"{self._pseudonym(stem[:cut])}{stem[cut]}{self._pseudonym(stem[cut + 1 :])}" if cut > 0 else None
        return "/".join([*map(self._pseudonym, pure.parent.parts), (last or self._pseudonym(stem)) + suffix])

    def folder(self, path: str) -> str:
        """The pseudonym of a folder: that of any path in it begins with the same."""
        return "/".join(map(self._pseudonym, PurePosixPath(path).parts))

    def identifier(self, uid: str) -> str:
        """The pseudonym of a study or instance UID; of none, none."""
        return uid and self._pseudonym(f"uid {uid}")

    @staticmethod
    def _suffix(name: str) -> str:
        suffix = PurePosixPath(name).suffix
        return suffix if suffix.lower() in _SUFFIXES else ""

    def _pseudonym(self, part: str) -> str:
        return hmac.new(self._key, part.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:_DIGITS]
