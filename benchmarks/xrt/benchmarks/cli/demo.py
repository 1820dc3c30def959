"""`xrt demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.benchmarks.cli.evaluate import print_evaluation
from xrt.benchmarks.cli.options import require_torch_extra
from xrt.runtime.cli.output import JsonOption, TerminalProgress, write_json


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for everything that the demonstration makes.")
    ] = Path("out/demo"),
    count: Annotated[int, typer.Option(min=200, help="Phantoms to make; a fifth is held out.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms and of the training.")] = 0,
    json: JsonOption = None,
) -> None:
    """Show the whole workflow on synthetic radiographs: make, train, export, certify, evaluate, screen, compare speed.

    Takes a few minutes on two cores and ends at an HTML worklist with heatmaps that were made without PyTorch.
    """
    require_torch_extra("demo")
    from xrt.benchmarks.demo import run_demo

    with TerminalProgress() as progress:
        result = run_demo(out, count=count, seed=seed, progress=progress)
    print_evaluation(result.evaluation)
    print(f"speed at batch 8: {result.speedup_sentence}")
    print(f"report: {result.report}")
    write_json(json, result.as_dict())
