"""`xrt purge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def purge(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out folder of `xrt triage`.")],
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Remove what was recorded more than so many days ago.")
    ],
    scope: Annotated[
        Literal["superseded", "gone", "all"],
        typer.Option(
            help="Rows whose file has other content now; those, and rows whose file is no longer there; or all rows."
        ),
    ] = "gone",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove old results: rows with their findings and maps, heatmaps, delivered events, copies of the database.

    Images are never touched: one that is still there is screened again by the next run. Worklist and report are
    written again. What is removed is overwritten in results.db; on a disk of its own it may still be recoverable.

    Examples:

      xrt purge results/ --older-than 365

      xrt purge results/ --older-than 90 --scope all --dry-run
    """
    from xrt.runtime.screening.retention import purge as remove

    summary = remove(out, older_than, scope=scope, dry_run=dry_run)
    print(
        f"{'would remove' if dry_run else 'removed'} {summary.images} images, {summary.heatmaps} heatmaps, "
        f"{summary.events} events, {summary.copies} copies of the database"
    )
