"""`xrt train`. Heavy imports stay inside the function, so that `xrt --help` is quick."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.cli.output import say
from xrt.runtime.errors import MissingDependency


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.")],
    data: Annotated[Path, typer.Option(help="The labelled data set: a folder or a file.")],
    out: Annotated[Path, typer.Option(help="Directory for the run; it must not hold a finished one.")],
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the unfinished run in --out; the result is that of an unbroken one."),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures here.")] = None,
) -> None:
    """Train a classifier and write its checkpoint, thresholds and figures.

    A recipe says everything that decides the result: data, preprocessing, model, augmentation, loss, phases. Any of it
    is changed by --set: `--set optim.lr=1e-4 --set model.architecture=densenet121 --set model.weights=file.pth`.

    Example: xrt train pneumoniamnist --data pneumoniamnist.npz --out runs/pm
    """
    from xrt.train.recipe import load_recipe

    loaded = load_recipe(recipe, set_ or ())
    try:
        from xrt.train.fit import fit
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("lightning", "matplotlib", "torchmetrics"):
            raise
        raise MissingDependency(
            f"training needs {error.name}, which is not installed: pip install 'xrt-train[lightning]'"
        ) from error
    run = fit(loaded, data, out, resume=resume, say=say)
    if json_ is not None:
        json_.parent.mkdir(parents=True, exist_ok=True)
        json_.write_text(json.dumps(run.metrics, indent=2) + "\n", encoding="utf-8")
    typer.echo(_table(run.metrics))
    typer.echo(f"checkpoint: {run.directory}")


def _table(metrics: dict) -> str:
    """The test figures of every class as aligned text."""
    test, seconds = metrics["test"], metrics["seconds"]
    lines = [f"{'class':<22}{'AUROC':>8}{'sensitivity':>13}{'specificity':>13}{'threshold':>11}{'images':>8}"]
    for name, row in test["classes"].items():
        cells = [row["auroc"], row["sensitivity"], row["specificity"], metrics["thresholds"].get(name)]
        auroc, sensitivity, specificity, threshold = ("-" if cell is None else f"{cell:.3f}" for cell in cells)
        lines.append(f"{name:<22}{auroc:>8}{sensitivity:>13}{specificity:>13}{threshold:>11}{row['images']:>8}")
    mean = "-" if test["auroc"] is None else f"{test['auroc']:.4f}"
    lines.append(
        f"test: mean AUROC {mean}, accuracy {test['accuracy']:.4f}, {test['images']} images;"
        f" epoch {metrics['best_epoch']} of {metrics['epochs']} kept; {seconds['total']:.0f} s"
    )
    return "\n".join(lines)
