"""`xrt search`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated, Any

import typer

from xrt.runtime.cli.output import JsonOption, TerminalProgress, say, write_json
from xrt.train.cli.options import DataOption, RecipeArgument, SetOption, require_extra


def search(
    recipe: RecipeArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Directory of the runs; a search that it holds is continued.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Train at most so many runs now.")] = None,
    set_: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Train every configuration of a recipe's grid and rank them by their best validation figure.

    Each run starts fresh and writes a record.json as it ends. The command can be stopped and given again, and several
    machines that share --out can run it at the same time: each takes a run that no other works on. Choose by
    validation; the test figures are in the records and are not used for the ranking.

    Example: xrt search nih-abnormal --data nih/ --out runs/abnormal
    """
    with require_extra("search", "optuna", "filelock", "lightning", "matplotlib", "torchmetrics"):
        from xrt.train.search.grid import load_grid
        from xrt.train.search.search import search_grid
    grid = load_grid(recipe, set_ or ())
    with TerminalProgress(unit="") as progress:
        records = search_grid(grid, data, out, limit=limit, progress=progress)
    with (out / "ranking.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_rows(records))
    for line in _aligned(_rows(records)):
        typer.echo(line)
    typer.echo(f"ranking: {out / 'ranking.csv'}")
    write_json(json, records)
    if failed := [record["run"] for record in records if record["error"] is not None]:
        say(f"{len(failed)} of {len(records)} runs failed: {', '.join(failed)}; their record.json says why")
        raise typer.Exit(1)


def _rows(records: list[dict[str, Any]]) -> list[list[str]]:
    """A header and a line per run."""
    keys = list(records[0]["changes"]) if records else []
    figure = records[0]["figure"] if records else "figure"
    rows = [["rank", f"validation {figure}", *keys, "best epoch", "seconds", "run"]]
    for rank, record in enumerate(records, 1):
        value = "failed" if record["value"] is None else f"{record['value']:.4f}"
        seconds = f"{record.get('seconds', record['ended_after_s']):.0f}"
        changes = [str(record["changes"][key]) for key in keys]
        rows.append([str(rank), value, *changes, str(record.get("best_epoch", "-")), seconds, record["run"]])
    return rows


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
