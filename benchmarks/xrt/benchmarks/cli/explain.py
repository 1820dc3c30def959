"""`xrt explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from xrt.benchmarks.cli.options import BackendOption, BundleArgument, PrecisionOption
from xrt.benchmarks.cli.output import report_unscored
from xrt.benchmarks.cli.selection import (
    CaseSelection,
    DatasetArgument,
    LimitOption,
    SplitFileOption,
    SplitOption,
    UnreadableOption,
)
from xrt.runtime.cli.output import JsonOption, TerminalProgress, TrustOption, numbers, write_json
from xrt.runtime.cli.renamed import renamed_options


@renamed_options({"--also": "--compare"})
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
        int, typer.Option("--top-k", min=1, help="Cases per class in each list: highest probability, and worst errors.")
    ] = 100,
    class_names: Annotated[
        Optional[list[str]],  # noqa: UP045 (typer)
        typer.Option("--class", metavar="NAME", help="Explain this class alone; repeat for several. Default: all."),
    ] = None,
    alpha: Annotated[
        str, typer.Option(help="Opacities of the heatmap to show side by side, above 0 and up to 1.")
    ] = "0.2,0.4,0.6",
    compare: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(metavar="OTHER.xrt", help="Show the examples as this bundle explains them, too; repeatable."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Images drawn in every way: all classes, in one, by opacity, layer and bundle.")
    ] = 8,
    limit: LimitOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per run of the graph.")] = 16,
    allow_unreadable: UnreadableOption = 0.05,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Draw the heatmaps of a bundle over a whole split: of all its findings, and of the cases worth looking at.

    Into --out go report.html; heatmaps.csv and heatmaps/ (one file per finding, in the order of the data set, as it
    runs); cases/ (the highest probabilities, the false positives and the false negatives of every class, with
    top_cases.csv and hard_cases.csv); examples/ (every class of an image, several findings in one, opacities, layers
    of a bundle that has several, other bundles); mean_heatmaps.png; metrics.json. Every heatmap is scaled to its own
    maximum. Needs no PyTorch.

    Exit code 3: finished, but some images could not be scored.

    Example: xrt explain chest.xrt /data/nih --out explained --split test --compare resnet.xrt
    """
    from xrt.benchmarks.explanation.explain import explain as explain_bundle
    from xrt.benchmarks.explanation.options import ExplainOptions
    from xrt.benchmarks.report import write_report
    from xrt.runtime.bundle.reader import Bundle

    options = ExplainOptions(
        heatmaps=heatmaps,
        classes=tuple(class_names or ()),
        top_k=top_k,
        alphas=numbers("--alpha", alpha, "0.2,0.4"),
        examples=examples,
        batch_size=batch_size,
        allow_unscored=allow_unreadable,
        backend=backend,
        precision=precision,
    )
    selection = CaseSelection(dataset, split, split_file, limit)
    explained_bundle = Bundle.open(bundle, trust=trust)
    cases = selection.open(explained_bundle)
    others = [Bundle.open(path, trust=trust) for path in compare or ()]
    with TerminalProgress() as progress:
        result = explain_bundle(explained_bundle, cases, out, options, compare=others, progress=progress)
    print(f"{result.figures['images']} images of {cases.table.name}, part {cases.part}")
    print(f"{'class':24} {'labelled':>9} {'predicted':>9} {'correct':>9} {'no map':>9}")
    for row in result.figures["classes"]:
        print(f"{row['class']:24} " + " ".join(f"{value:9}" for key, value in row.items() if key != "class"))
    report = write_report(out, result.report)
    print(f"{result.figures['files']} heatmaps: {out}")
    print(f"report: {report}")
    write_json(json, result.figures)
    report_unscored(result.unscored)
