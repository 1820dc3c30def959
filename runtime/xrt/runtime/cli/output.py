"""What commands share: progress on stderr when a person is watching, results on stdout, `--json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xrt.runtime.errors import UsageError
from xrt.runtime.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, TaskID

    from xrt.runtime.bundle.manifest import ContentCheck, Reaction

TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="KEY.pub",
        help="Run only a bundle that this public key signed; `xrt sign` makes keys and signatures.",
    ),
]
CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        "--check",
        metavar="NAME=note|reject|off",
        help="What a check of the picture does: aspect, colour, flat (screenshots), inverted, statistics (unlike the "
        "training images), turned. A note by default. May be repeated.",
    ),
]
JsonOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON to FILE.")
]


def write_json(path: Path | None, result: Any) -> None:
    """Write a result where `--json` asked for it, if it did."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2, default=str) + "\n")


def say(message: str) -> None:
    """A line of progress for a person, on stderr."""
    print(f"xrt: {message}", file=sys.stderr, flush=True)


def comma_separated(option: str, text: str | None, example: str) -> tuple[str, ...]:
    """Names separated by commas, each once; none for None. Raises UsageError when a text has none."""
    names = tuple(dict.fromkeys(name for part in (text or "").split(",") if (name := part.strip())))
    if text is not None and not names:
        raise UsageError(f"{option} takes names separated by commas, such as {example}; given {text!r}")
    return names


def content_checks(texts: list[str] | None) -> dict[ContentCheck, Reaction]:
    """What checks of a picture do, from texts such as `inverted=reject`. Raises UsageError."""
    from xrt.runtime.bundle.manifest import CONTENT_CHECKS, REACTIONS

    checks: dict[str, ContentCheck] = {name: name for name in CONTENT_CHECKS}
    reactions: dict[str, Reaction] = {name: name for name in REACTIONS}
    chosen: dict[ContentCheck, Reaction] = {}
    for text in texts or ():
        name, _, reaction = text.partition("=")
        if name not in checks or reaction not in reactions:
            raise UsageError(
                f"--check takes NAME={'|'.join(REACTIONS)} with a name of {', '.join(CONTENT_CHECKS)}; given {text!r}"
            )
        chosen[checks[name]] = reactions[reaction]
    return chosen


def numbers(option: str, text: str, example: str) -> tuple[float, ...]:
    """Numbers separated by commas. Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers separated by commas, such as {example}; given {text!r}") from None


class TerminalProgress(Progress):
    """Draws progress on stderr while a person is watching; steps and notes are printed in any case.

    Use it as a context manager. A count is a bar with the time that remains; a step shows the time since it began.
    """

    def __init__(self, unit: str = "images") -> None:
        self._unit = unit
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(None)

    def step(self, message: str) -> None:
        """Print the step, and show how long it takes."""
        say(message)
        from rich.progress import SpinnerColumn, TimeElapsedColumn

        self._show((SpinnerColumn(), TimeElapsedColumn()))
        if self._bar is not None:
            self._task = None
            self._bar.add_task("", total=None)

    def note(self, message: str) -> None:
        """Print a line that starts with `note:`."""
        say(f"note: {message}")

    def count(self, done: int, total: int | None, what: str) -> None:
        """Move the bar."""
        if not sys.stderr.isatty():
            return
        if self._bar is None or self._task is None:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

            self._show(
                (
                    TextColumn("{task.description}"),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TextColumn(self._unit),
                    TimeRemainingColumn(),
                )
            )
            if self._bar is None:
                return
            self._task = self._bar.add_task(what, total=total)
        self._bar.update(self._task, completed=done, total=total, description=what)

    def _show(self, columns: tuple[ProgressColumn, ...] | None) -> None:
        """Stop the bar that is drawn, and draw these columns, if any."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None
        if columns is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
