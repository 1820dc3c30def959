"""Progress of long work. Library code reports it here; the command line draws it."""

from __future__ import annotations


class Progress:
    """Receives the progress of long work and ignores it. A subclass shows it: see `xrt.runtime.cli.output`."""

    def step(self, message: str) -> None:
        """A step starts; `message` is one line."""

    def note(self, message: str) -> None:
        """Something that the user should know, in one line."""

    def count(self, done: int, total: int | None, what: str) -> None:
        """`done` of `total` are done; `what` names the work in a word or two."""


SILENT = Progress()
"""For callers that show nothing."""
