"""What commands share: progress on stderr when a person is watching, results on stdout, `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

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


@contextmanager
def progress_bar(unit: str = "images") -> Iterator[Progress]:
    """A rich progress bar on stderr, hidden when stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        yield bar


@contextmanager
def steps() -> Iterator[Callable[[str], None]]:
    """Says each step as `say` does, and, when stderr is a terminal, how long the last one has been going on."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TimeElapsedColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as clock:
        task = clock.add_task("", total=None)

        def step(message: str) -> None:
            say(message)
            clock.reset(task)

        yield step
