"""What the commands of this part print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from xrt.runtime.cli.output import say
from xrt.runtime.progress import Progress

if TYPE_CHECKING:
    from xrt.runtime.scoring import Unscored


class PrintedProgress(Progress):
    """Prints steps and notes on stderr, and draws nothing: a moving bar takes time from what is being timed."""

    def step(self, message: str) -> None:
        """Print the step."""
        say(message)

    def note(self, message: str) -> None:
        """Print the note."""
        say(message)


def report_unscored(unscored: Sequence[Unscored]) -> None:
    """Say what could not be scored and exit with 3, if there is anything."""
    if unscored:
        images = "1 image" if len(unscored) == 1 else f"{len(unscored)} images"
        say(f"{images} could not be scored, the first: {unscored[0].key}: {unscored[0].reason}")
        raise typer.Exit(3)
