"""`xrt faithfulness`."""

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
from xrt.runtime.cli.output import JsonOption, TerminalProgress, TrustOption, say, write_json
from xrt.runtime.cli.renamed import renamed_options


@renamed_options({"--lerf": "--least-first"})
def faithfulness(
    bundle: BundleArgument,
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html, metrics.json, tables and curves.")],
    split: SplitOption = "auto",
    split_file: SplitFileOption = None,
    perturbation: Annotated[
        Literal["noise", "uniform", "blur", "mean"],
        typer.Option(
            help="What happens to a cell: Gaussian noise is added, or random grey, a blur or the mean put there."
        ),
    ] = "noise",
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise, as a fraction of the grey range.")
    ] = 0.1,
    correct_only: Annotated[bool, typer.Option("--correct-only", help="Only findings that the labels name.")] = False,
    steps: Annotated[
        int, typer.Option(min=2, help="Steps of a walk at most. As many as the map has cells: one cell at a time.")
    ] = 16,
    random_orders: Annotated[int, typer.Option(min=1, help="Random orders per image, as the baseline.")] = 2,
    least_first: Annotated[
        bool, typer.Option("--least-first", help="Also replace the coolest cells first (LeRF); a third more runs.")
    ] = False,
    cams: Annotated[
        Optional[str],  # noqa: UP045 (typer)
        typer.Option(metavar="OUTPUT", help="Which maps, such as cams.layer3. Default: the graph's first output."),
    ] = None,
    limit: LimitOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of noise, random orders and intervals.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per run; perturbed copies of several fill it.")] = 32,
    allow_unreadable: UnreadableOption = 0.05,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Measure whether heatmaps show what the model decides by, and whether they locate the lesions.

    The cells of each finding's map are replaced, hottest first (MoRF, AOPC), deleted and inserted, and the model's
    probability is recorded; random orders are the baseline. Where the data set has boxes: the pointing game and the
    overlap of boxes, against chance and shuffled maps. Everything with 95 % intervals over images, by class, and on
    phantoms by contrast. A finding takes about 3 × (1 + random orders) × steps runs of the network. Needs no PyTorch.

    Exit code 3: finished, but some images could not be scored.

    Example: xrt faithfulness covid.xrt /data/covid --out faithful --split test --correct-only --sigma 0.1
    """
    from xrt.benchmarks.faithfulness.measure import measure_faithfulness
    from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
    from xrt.benchmarks.faithfulness.report import write_faithfulness
    from xrt.benchmarks.report import write_report
    from xrt.runtime._io import require_writable
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.session import open_session

    options = FaithfulnessOptions(
        perturbation=perturbation,
        sigma=sigma,
        steps=steps,
        correct_only=correct_only,
        least_first=least_first,
        random_orders=random_orders,
        cams=cams,
        seed=seed,
        batch_size=batch_size,
        allow_unscored=allow_unreadable,
    )
    require_writable(out, out)
    measured_bundle = Bundle.open(bundle, trust=trust)
    cases = CaseSelection(dataset, split, split_file, limit).open(measured_bundle)
    with open_session(measured_bundle, backend=backend, precision=precision) as opened, TerminalProgress() as progress:
        result = measure_faithfulness(opened, cases, options, progress=progress)
    report = write_report(out, write_faithfulness(out, result))
    left_out = "".join(f", {count} left out ({reason})" for reason, count in result.left_out.items())
    print(f"{len(result.curves)} findings of {result.images} images{left_out}; {cases.table.name}, part {cases.part}")
    print(f"{'':26} {'heatmap':>24} {'random orders':>24} {'difference':>26}")
    for row in result.faithfulness:
        if row.kind == "all":
            columns = f"{row.map.text:>24} {row.random.text:>24} {row.difference.text:>26}"
            print(f"{row.measure:26} {columns}  {row.better} is better")
    if result.localisation:
        print(f"maps against {result.localisation[0].count} boxed findings:")
        print(f"{'':38} {'pointing':>24} {'shuffled maps':>24} {'chance':>26}")
        for row in result.localisation:
            if row.kind in ("all", "area"):
                columns = f"{row.hits.text:>24} {row.hits_shuffled.text:>24} {row.chance.text:>26}"
                print(f"{row.name:38} {columns}  {row.count} findings, IoU {row.iou.text}")
    if result.nothing:
        say(f"note: {result.nothing}")
    print(f"tables, figures and report: {report}")
    write_json(json, result.as_dict())
    report_unscored(result.unscored)
