"""`xrt evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xrt.benchmarks.cli.options import BackendOption, BundleArgument, PrecisionOption
from xrt.runtime.cli.output import JsonOption, progress_bar, write_json


def evaluate(
    bundle: BundleArgument,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A folder in the NIH layout, or a MedMNIST .npz.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for metrics.json, predictions.csv and roc.png.")],
    split: Annotated[
        Literal["auto", "train", "val", "test", "all"],
        typer.Option(help="Which official part; auto is the test part where there is one, else all cases."),
    ] = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    json: JsonOption = None,
) -> None:
    """Measure a bundle on a labelled data set: AUROC, accuracy, sensitivity, specificity, and heatmaps against boxes.

    Needs no PyTorch. Thresholds are those of the bundle.

    Example: xrt evaluate pneumonia.xrt pneumoniamnist.npz --out evaluation/
    """
    from xrt.benchmarks.evaluation import evaluate as run
    from xrt.benchmarks.evaluation import select_part, write_evaluation
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.cases import cases_for
    from xrt.runtime.opening import open_session

    opened_bundle = Bundle.open(bundle)
    table, part = select_part(cases_for(opened_bundle.manifest, dataset), split)
    opened = open_session(opened_bundle, backend=backend, precision=precision)
    with opened.session, progress_bar() as bar:
        task = bar.add_task("evaluating", total=len(table))
        result, scores = run(
            opened_bundle, opened, table, part, progress=lambda done, _: bar.update(task, completed=done)
        )
    write_evaluation(out, result, scores)
    print_evaluation(result)
    print(f"report: {out}")
    write_json(json, result.as_dict())


def print_evaluation(result) -> None:
    """Print an Evaluation as tables on stdout."""

    def cell(value: float | None, width: int = 11) -> str:
        return f"{'not defined':>{width}}" if value is None else f"{value:{width}.3f}"

    print(f"{result.images} images of {result.dataset}, part {result.part}")
    print(
        f"{'class':24} {'images':>6} {'AUROC':>11} {'AP':>11} {'accuracy':>11} {'sensitivity':>11} {'specificity':>11}"
    )
    for c in result.classes:
        columns = (c.auroc, c.average_precision, c.accuracy, c.sensitivity, c.specificity)
        print(f"{c.name:24} {c.images:6} " + " ".join(cell(value) for value in columns))
    print(f"{'mean':24} {'':6} {cell(result.mean_auroc)} {'':11} {cell(result.accuracy)}")
    if result.pointing:
        print("maximum of the heatmap inside the lesion's box (findings that have one):")
        print(f"{'class':24} {'count':>6} {'heatmap':>11} {'chance':>11} {'shuffled':>11}")
        for row in result.pointing:
            print(f"{row.name:24} {row.count:6} {cell(row.hits)} {cell(row.chance)} {cell(row.shuffled)}")
