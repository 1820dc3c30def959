"""`xrt explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from xrt.benchmarks.cli.options import BackendOption, BundleArgument, PrecisionOption
from xrt.benchmarks.cli.selecting import (
    DatasetArgument,
    LimitOption,
    SplitFileOption,
    SplitOption,
    UnreadableOption,
    report_unscored,
)
from xrt.runtime.cli.output import JsonOption, progress_bar, write_json


def explain(
    bundle: BundleArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="An empty or absent folder for everything that is drawn.")],
    split: SplitOption = "auto",
    split_file: SplitFileOption = None,
    heatmaps: Annotated[
        Literal["positive", "all", "none"],
        typer.Option(help="Write the heatmaps of predicted classes (argmax for multiclass), of all classes, or none."),
    ] = "positive",
    top_k: Annotated[
        int, typer.Option("--top-k", min=1, help="Cases a class in each list: highest probability, and most mistaken.")
    ] = 100,
    class_names: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option("--class", metavar="NAME", help="Explain this class alone; repeat for several. Default: all."),
    ] = None,
    alpha: Annotated[
        str, typer.Option(help="Opacities of the heatmap to show side by side, above 0 and up to 1.")
    ] = "0.2,0.4,0.6",
    also: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="OTHER.xrt", help="Show the examples as this bundle explains them, too; repeatable."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Images drawn in every way: all classes, in one, by opacity, layer and bundle.")
    ] = 8,
    limit: LimitOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a run of the graph.")] = 16,
    allow_unreadable: UnreadableOption = 0.05,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    json: JsonOption = None,
) -> None:
    """Draw what a bundle looks at, over a whole split: heatmaps of its findings, and the cases worth looking at.

    Into --out go report.html; heatmaps.csv and heatmaps/ (one file a finding, in the order of the data set, as it
    runs); cases/ (the highest probabilities, the false positives and the false negatives of every class, with
    top_cases.csv and hard_cases.csv); examples/ (every class of an image, several findings in one, opacities, layers
    of a bundle that has several, other bundles); mean_heatmaps.png; metrics.json. Every heatmap is scaled to its own
    maximum. Needs no PyTorch.

    Exit code 3: finished, but some images could not be scored.

    Example: xrt explain chest.xrt /data/nih --out explained --split test --also resnet.xrt
    """
    from xrt.benchmarks.cli.selecting import numbers_of, open_part
    from xrt.benchmarks.explanation.explain import explain as run
    from xrt.benchmarks.explanation.options import ExplainOptions
    from xrt.benchmarks.report import write_report
    from xrt.runtime.bundle.reader import Bundle

    options = ExplainOptions(
        heatmaps=heatmaps,
        classes=tuple(class_names or ()),
        top_k=top_k,
        alphas=numbers_of(alpha, "--alpha"),
        examples=examples,
        batch_size=batch_size,
        allow_unscored=allow_unreadable,
        backend=backend,
        precision=precision,
    )
    opened_bundle = Bundle.open(bundle)
    table, part = open_part(opened_bundle, dataset, split, split_file, limit)
    with progress_bar() as bar:
        task = bar.add_task("explaining", total=len(table))
        done = run(
            opened_bundle,
            table,
            part,
            out,
            options,
            also=[Bundle.open(path) for path in also or ()],
            progress=lambda count, _: bar.update(task, completed=count),
        )
    print(f"{done.figures['images']} images of {table.name}, part {part}")
    print(f"{'class':24} {'labelled':>9} {'predicted':>9} {'correct':>9} {'no map':>9}")
    for row in done.figures["classes"]:
        print(f"{row['class']:24} " + " ".join(f"{value:9}" for key, value in row.items() if key != "class"))
    report = write_report(out, done.report)
    print(f"{done.figures['files']} heatmaps: {out}")
    print(f"report: {report}")
    write_json(json, done.figures)
    report_unscored(done.unscored)
