"""`xrt train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.cli.output import JsonOption, TerminalProgress, write_json
from xrt.train.cli.options import DataOption, RecipeArgument, SetOption, require_extra


def train(
    recipe: RecipeArgument,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Directory for the run; it must not hold a finished one.")],
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the unfinished run in --out; the result is that of an unbroken one."),
    ] = False,
    set_: SetOption = None,
    json: JsonOption = None,
) -> None:
    """Train a classifier and write its checkpoint, thresholds and figures.

    A recipe says everything that decides the result: data, preprocessing, model, augmentation, loss, phases. Any of it
    is changed by --set: `--set optim.lr=1e-4 --set model.architecture=densenet121 --set model.weights=file.pth`.

    Example: xrt train pneumoniamnist --data pneumoniamnist.npz --out runs/pm
    """
    from xrt.train.recipes.loader import load_recipe

    spec = load_recipe(recipe, set_ or ())
    with require_extra("lightning", "lightning", "matplotlib", "torchmetrics"):
        from xrt.train.training.fit import fit
        from xrt.train.training.trainer import first_process
    with TerminalProgress(unit="") as progress:
        run = fit(spec, data, out, resume=resume, progress=progress)
    if not first_process():
        return
    write_json(json, run.metrics)
    typer.echo(_table(run.metrics))
    typer.echo(f"checkpoint: {run.directory}")


def _table(metrics: dict) -> str:
    """The test figures of every class as aligned text."""
    test, seconds = metrics["test"], metrics["seconds"]
    lines = [f"{'class':<22}{'AUROC':>8}{'sensitivity':>13}{'specificity':>13}{'threshold':>11}{'positives':>11}"]
    for name, row in test["classes"].items():
        cells = [row["auroc"], row["sensitivity"], row["specificity"], metrics["thresholds"].get(name)]
        auroc, sensitivity, specificity, threshold = ("-" if cell is None else f"{cell:.3f}" for cell in cells)
        lines.append(f"{name:<22}{auroc:>8}{sensitivity:>13}{specificity:>13}{threshold:>11}{row['images']:>11}")
    mean = "-" if test["auroc"] is None else f"{test['auroc']:.4f}"
    lines.append(
        f"test: mean AUROC {mean}, accuracy {test['accuracy']:.4f}, {test['images']} images;"
        f" epoch {metrics['best_epoch']} of {metrics['epochs']} kept; {seconds['total']:.0f} s"
    )
    return "\n".join(lines)
