"""`xrt draw`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xrt.runtime.cli.output import TerminalProgress, say

_SHOWN = 5


def draw(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out folder of `xrt triage`.")],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...",
            help="Images as results.db and worklist.csv name them; left out, those of the most urgent studies.",
        ),
    ] = None,
    studies: Annotated[int, typer.Option(min=1, help="How many studies, where no files are named.")] = 200,
    heatmaps: Annotated[
        Literal["positive", "all"], typer.Option(help="Heatmaps of findings, or of every class that has a map.")
    ] = "positive",
    workers: Annotated[
        int | None, typer.Option(min=0, max=64, help="Processes; by default one per core, at most 8.")
    ] = None,
) -> None:
    """Draw heatmaps of images that were screened before, from the maps that results.db keeps.

    Screening with `--heatmaps none` draws none, which takes the least time; this draws those that somebody looks at.
    The files must be where they were, and unchanged. The report is written again, and shows them.

    Examples:

      xrt draw results/

      xrt draw results/ ward-3/00012.png --heatmaps all
    """
    from xrt.runtime.screening.drawing import draw_heatmaps

    with TerminalProgress() as progress:
        summary = draw_heatmaps(
            out, files or (), studies=studies, heatmaps=heatmaps, workers=workers, progress=progress
        )
    print(f"{summary.heatmaps} heatmaps of {summary.images} images; report: {out / 'report.html'}")
    for path, reason in list(summary.skipped.items())[:_SHOWN]:
        say(f"{path}: {reason}")
    if len(summary.skipped) > _SHOWN:
        say(f"and {len(summary.skipped) - _SHOWN} more")
    if summary.skipped:
        raise typer.Exit(3)
