"""Which files a run looks at: every one under its inputs, each once, and a word about each that is left out.

A file is known by the folder that was given and its path in it. Its name is recorded so that different names stay
different: bytes that are no UTF-8 as an escape, a backslash twice.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from xrt.runtime._io import HEATMAPS, RESULTS_NAME, is_product
from xrt.runtime.errors import UsageError
from xrt.runtime.screening.redaction import Redaction

IGNORED = {"dicomdir", "thumbs.db", "desktop.ini", "autorun.inf", "ehthumbs.db"}
"""Files that operating systems and viewers put beside images, in lower case."""
HIDDEN, SYSTEM = "hidden", "of the operating system or a viewer"
OWN, LINK, TWICE = "results of a screening run", "a link out of the input folder", "reached twice"


class FoundFile(NamedTuple):
    """One file: the folder that was given, the path in it, as recorded, and where to open it."""

    root: str
    path: str
    location: str

    @property
    def file(self) -> Path:
        """Where to open it. A text is kept in its place, which takes a fifth of the room."""
        return Path(self.location)


class Listing:
    """Files under the inputs of a run, and what was left out of them.

    `out` is the run's own folder, which is left out. Links that lead out of the folder given are followed with
    `follow_links` alone. `redact` makes pseudonyms of recorded paths.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        out: Path,
        *,
        follow_links: bool = False,
        redact: Redaction | None = None,
    ) -> None:
        self._paths, self._out = paths, out.resolve()
        self._follow_links = follow_links
        self._redact = redact
        self.left_out: Counter[str] = Counter()

    @property
    def roots(self) -> list[str]:
        """The roots of all paths that were given; a file that was given alone is its own."""
        return [
            self.root_of(path)
            if path.is_dir() or not path.exists()
            else f"{self.root_of(path)}/{self._named(Path(path.name))}"
            for path in self._paths
        ]

    def root_of(self, path: Path) -> str:
        """The root under which what is found at a path that was given is recorded."""
        root = recordable((path if path.is_dir() or not path.exists() else path.parent).resolve())
        return root if self._redact is None else self._redact.folder(root)

    def __iter__(self) -> Iterator[FoundFile]:
        """Every file, in order of its path. Raises UsageError when there is nothing at a path that was given."""
        return self.of(self._paths)

    def of(self, paths: Sequence[Path]) -> Iterator[FoundFile]:
        """Every file under some of the paths that were given."""
        self.left_out.clear()
        seen: set[str] = set()
        for path in paths:
            root, at = path if path.is_dir() else path.parent, self.root_of(path)
            for file in self._files(path):
                absolute = os.path.abspath(file)  # noqa: PTH100 (a link is a path of its own, and may be a loop)
                if absolute in seen:
                    self.left_out[TWICE] += 1
                    continue
                seen.add(absolute)
                yield FoundFile(at, self._named(file.relative_to(root)), str(file))

    def _named(self, relative: Path) -> str:
        """The path of a file under its root, as recorded."""
        name = recordable(PurePosixPath(relative.as_posix()))
        return name if self._redact is None else self._redact(name)

    def _files(self, path: Path) -> Iterator[Path]:
        try:
            if not path.is_dir():
                if not path.exists() and not path.is_symlink():
                    raise UsageError(f"there is no file or folder {path}")
                yield path
                return
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        yield from self._walk(path, path.resolve())

    def _walk(self, top: Path, real_top: Path) -> Iterator[Path]:
        unreadable: list[str] = []
        visited: set[str] = set()
        for folder, folders, names in os.walk(
            top, followlinks=True, onerror=lambda e: unreadable.append(str(e.filename))
        ):
            real = os.path.realpath(folder)
            if real in visited:
                folders.clear()
                self.left_out[TWICE] += len(names)
                continue
            visited.add(real)
            results = RESULTS_NAME in names or Path(real) == self._out
            folders[:] = [
                name for name in sorted(folders) if self._enters(Path(folder, name), real_top, results=results)
            ]
            for name in sorted(names):
                reason = self._reason(Path(folder, name), real_top, results=results)
                if reason is None:
                    yield Path(folder, name)
                else:
                    self.left_out[reason] += 1
        # A folder that cannot be listed is looked at itself, so that it is reported.
        yield from map(Path, sorted(unreadable))

    def _enters(self, folder: Path, real_top: Path, *, results: bool) -> bool:
        if folder.name.startswith("."):
            self.left_out[HIDDEN] += 1
            return False
        if results and folder.name == HEATMAPS:
            self.left_out[OWN] += 1
            return False
        if folder.is_symlink() and not self._is_inside(folder, real_top):
            self.left_out[LINK] += 1
            return False
        return True

    def _reason(self, file: Path, real_top: Path, *, results: bool) -> str | None:
        """Why a file is left out; None for one that is looked at."""
        if file.name.startswith("."):
            return HIDDEN
        if file.name.lower() in IGNORED:
            return SYSTEM
        if results and is_product(file.name):
            return OWN
        if file.is_symlink() and not self._is_inside(file, real_top):
            return LINK
        return None

    def _is_inside(self, link: Path, real_top: Path) -> bool:
        if self._follow_links:
            return True
        real = os.path.realpath(link)
        return real == str(link.absolute()) or Path(real).is_relative_to(real_top)


def recordable(path: os.PathLike[str]) -> str:
    """A path as text that holds no two paths alike."""
    doubled = os.fsencode(path).replace(b"\\", b"\\\\")
    return doubled.decode("utf-8", "backslashreplace")


def opened_as(recorded: str) -> Path:
    """The path that `recordable` made a text of."""
    escapes = re.compile(rb"\\(\\|x[0-9a-f]{2})")
    return Path(
        os.fsdecode(
            escapes.sub(
                lambda match: b"\\" if match[1] == b"\\" else bytes([int(match[1][1:], 16)]),
                recorded.encode(),
            )
        )
    )
