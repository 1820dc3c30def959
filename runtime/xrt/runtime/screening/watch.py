"""Folders that are watched: which files are there to be looked at now, and which are not there any more.

A scan of the folders is the truth; notices of the file system (inotify and its like, by watchfiles) only bring it
forward, since network mounts give none. A file is looked at when its size and time have stayed the same for a while. A
folder that is away, or suddenly empty, is waited for: a share that drops looks like the removal of everything.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xrt.runtime.screening.listing import FoundFile, Listing

log = logging.getLogger(__name__)

_ATTEMPTS = 3
_UNREADABLE = (-1, -1, -1)
_MISSED_SCANS = 2
"""A file counts as gone when so many scans in a row did not find it."""


@dataclass(frozen=True)
class WatchOptions:
    """How folders are watched: scanned every `interval` seconds; a file is whole after `settle` seconds without change.

    Both are free: half a minute is what a person at a worklist does not notice, and a file that is copied over a slow
    line grows within five seconds.
    """

    interval: float = 30.0
    settle: float = 5.0


@dataclass
class _Seen:
    """One file at its last scan: size, time and number, since when they are the same, and whether it was handed out."""

    state: tuple[int, int, int]
    since: float
    handed_out: bool = False
    missed: int = 0
    attempts: int = 0


class Watcher:
    """The files of watched folders as they become whole. Use it as a context manager."""

    def __init__(self, listing: Listing, folders: list[Path], options: WatchOptions) -> None:
        self._listing, self._folders, self._options = listing, folders, options
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._gone: dict[tuple[str, str], str] = {}
        self._notice, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow_notices, name="watch", daemon=True)
        self._next_scan = 0.0
        self._away: set[Path] = set()

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(5)

    @property
    def listed(self) -> int:
        """How many files the last scan found."""
        return len(self._seen)

    @property
    def away(self) -> list[Path]:
        """The folders that cannot be reached now."""
        return sorted(self._away)

    @property
    def roots(self) -> list[str]:
        """The folders that are watched, as the record names them."""
        return self._listing.roots

    @property
    def away_as_recorded(self) -> list[str]:
        """The same folders as the record names them."""
        return [self._listing.root_of(folder) for folder in self.away]

    @property
    def left_out(self) -> Mapping[str, int]:
        """What the last scan left out, by reason."""
        return self._listing.left_out

    def absent(self, known: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
        """Of known files those under folders that are there, which the last scan did not find."""
        roots = {root for root, _ in self._seen}
        return {file: sha256 for file, sha256 in known.items() if file[0] in roots and file not in self._seen}

    def try_again(self, identity: tuple[str, str]) -> bool:
        """Hand a file out once more whose content could not be read, three times at most; whether it will be.

        A folder may go away between a scan and the reading, and return with everything as it was.
        """
        seen = self._seen.get(identity)
        if seen is None:
            return True  # it is gone by now, which the scans have seen
        seen.attempts += 1
        if seen.attempts > _ATTEMPTS:
            return False
        seen.handed_out, seen.since = False, time.monotonic()
        self._notice.set()
        return True

    def lists(self, identity: tuple[str, str]) -> bool:
        """Whether a file counts as there: it was found, and has not gone since."""
        return identity in self._seen

    def take_gone(self) -> dict[tuple[str, str], str]:
        """Root and path of the files that have gone since the last call."""
        gone, self._gone = self._gone, {}
        return gone

    def wait(self, seconds: float) -> None:
        """Until something happened in the folders, or so many seconds at most."""
        self._notice.wait(max(0.0, min(seconds, self._next_scan - time.monotonic())))

    def due(self) -> Iterator[FoundFile]:
        """Scan the folders if it is time for it, and give the files that are whole and were not given before."""
        now = time.monotonic()
        if now < self._next_scan and not self._notice.is_set():
            return
        self._notice.clear()
        waiting = False
        found: set[tuple[str, str]] = set()
        reachable = self._reachable()
        for file in self._listing.of(reachable):
            identity = file.root, file.path
            found.add(identity)
            state = _state(file.file)
            seen = self._seen.get(identity)
            if seen is None or seen.state != state:
                self._seen[identity] = seen = _Seen(state, now)
            seen.missed = 0
            if state == _UNREADABLE:
                continue  # it went while the folder was listed
            if seen.handed_out:
                continue
            if now - seen.since >= self._options.settle:
                seen.handed_out = True
                yield file
            else:
                waiting = True
        self._note_missing(found, reachable)
        # What is not whole yet is looked at again as soon as it can be.
        self._next_scan = time.monotonic() + (min(self._options.settle, 1.0) if waiting else self._options.interval)

    def _reachable(self) -> list[Path]:
        """The folders that are there. One that was not empty and is, is taken to be away."""
        reachable = []
        for folder in self._folders:
            try:
                with os.scandir(folder) as entries:
                    empty = next(entries, None) is None
            except OSError:
                empty = True
            root = self._listing.root_of(folder)
            if empty and any(known == root for known, _ in self._seen):
                if folder not in self._away:
                    log.warning("%s is away or empty: waiting for it to return", folder)
                self._away.add(folder)
            else:
                if folder in self._away:
                    log.warning("%s is back", folder)
                self._away.discard(folder)
                if not empty:
                    reachable.append(folder)
        return reachable

    def _note_missing(self, found: set[tuple[str, str]], reachable: list[Path]) -> None:
        roots = {self._listing.root_of(folder) for folder in reachable}
        for identity in [known for known in self._seen if known not in found and known[0] in roots]:
            seen = self._seen[identity]
            seen.missed += 1
            if seen.missed >= _MISSED_SCANS:
                del self._seen[identity]
                self._gone[identity] = ""
            else:
                self._notice.set()  # looked at again at once: one scan may have met a folder in the middle of a change

    def _follow_notices(self) -> None:
        try:
            import watchfiles
        except ImportError:
            return
        while not self._stopping.is_set():
            folders = [folder for folder in self._folders if folder.is_dir()]
            try:
                if folders:
                    for _ in watchfiles.watch(
                        *folders, stop_event=self._stopping, raise_interrupt=False, yield_on_timeout=True, debounce=500
                    ):
                        if _:
                            self._notice.set()
                        if any(not folder.is_dir() for folder in folders):
                            break
            except Exception as error:  # too many folders for inotify, a mount that is gone: scans go on
                log.info("no notices of changes (%s): scans alone find them", type(error).__name__)
            self._stopping.wait(self._options.interval)


def _state(file: Path) -> tuple[int, int, int]:
    try:
        status = file.stat()
    except OSError:
        return _UNREADABLE
    return status.st_size, status.st_mtime_ns, status.st_ino
