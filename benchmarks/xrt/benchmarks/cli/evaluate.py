"""`xrt evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xrt.benchmarks.cli.options import BackendOption, PrecisionOption
from xrt.benchmarks.cli.output import report_unscored
from xrt.benchmarks.cli.selection import UnreadableOption
from xrt.runtime.cli.output import JsonOption, TerminalProgress, TrustOption, say, write_json
from xrt.runtime.cli.renamed import renamed_options
from xrt.runtime.errors import UsageError

if TYPE_CHECKING:
    from xrt.benchmarks.evaluation import Evaluation


@renamed_options({"--also": "--compare", "--require": "--acceptance"})
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A bundle NAME.xrt, or a CSV of predictions.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for report.html, metrics.json and predictions.csv.")],
    dataset: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DATASET]", help="A labelled data set; a CSV of predictions may have its labels itself."
        ),
    ] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(metavar="MODEL", help="Compare with this bundle or CSV on the same cases. May be repeated."),
    ] = None,
    split: Annotated[
        Literal["auto", "train", "val", "test", "all"],
        typer.Option(help="Which part is reported; auto is the test part where there is one, else all cases."),
    ] = "auto",
    split_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The split that training wrote: split.csv of its run.")
    ] = None,
    proportions: Annotated[
        str | None,
        typer.Option(metavar="T,V,T", help="Or the proportions that training split by, such as 0.7,0.15,0.15."),
    ] = None,
    split_seed: Annotated[int, typer.Option(help="And the seed of that split.")] = 0,
    validation: Annotated[
        Path | None,
        typer.Option(metavar="DATASET|CSV", help="Cases that give thresholds and temperatures; never reported ones."),
    ] = None,
    threshold_split: Annotated[
        Literal["auto", "train", "val", "test", "none"],
        typer.Option(help="Or the part of DATASET that does; auto is its validation part."),
    ] = "auto",
    thresholds: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Report under thresholds by youden, f1, sensitivity:TARGET or specificity:TARGET; default: the "
            "model's own, 0.5 for a CSV.",
        ),
    ] = None,
    temperature: Annotated[bool, typer.Option("--temperature", help="Report under newly fitted temperatures.")] = False,
    acceptance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT|FILE",
            help="Site acceptance: auroc>=0.9, sensitivity:Pneumonia>=0.85, ece<=0.1, or a YAML list of such. May be "
            "repeated. Exits 1 unless accepted.",
        ),
    ] = None,
    bundle_out: Annotated[
        Path | None,
        typer.Option(metavar="NAME.xrt", help="Write a new bundle with the new thresholds and temperatures."),
    ] = None,
    allow_unreadable: UnreadableOption = 0.05,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    bootstrap: Annotated[int, typer.Option(min=0, max=100_000, help="Resamples of patients for intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Measure a model on labelled cases: figures with intervals, curves, thresholds, calibration, subgroups, a report.

    Needs no PyTorch. Intervals are at 95 %, by patient. Thresholds and temperatures are chosen on validation cases.

    Exit code 3: finished, but some images could not be scored.

    Example: xrt evaluate pneumonia.xrt pneumoniamnist.npz --out evaluation/ --thresholds sensitivity:0.95
    """
    from xrt.benchmarks.evaluation import EvaluationOptions, EvaluationRequest, write_evaluation
    from xrt.benchmarks.evaluation import evaluate as evaluate_request
    from xrt.benchmarks.evaluation.export_thresholds import export_thresholds
    from xrt.benchmarks.evaluation.measure.acceptance import read_requirements
    from xrt.runtime._io import require_writable
    from xrt.runtime.bundle.writer import check_destination
    from xrt.runtime.thresholds import ThresholdRule

    if bundle_out is not None:
        if thresholds is None and not temperature:
            raise UsageError("--bundle-out writes new decision rules: ask for them with --thresholds or --temperature")
        if model.is_file():
            raise UsageError("a CSV of predictions is no model: --bundle-out needs a bundle")
        check_destination(bundle_out)
    require_writable(out, out)
    request = EvaluationRequest(
        model=model,
        dataset=dataset,
        compare=tuple(compare or ()),
        split=split,
        proportions=_proportions(proportions),
        split_seed=split_seed,
        split_file=split_file,
        validation=validation,
        threshold_split=threshold_split,
        backend=backend,
        precision=precision,
        trust=trust,
        allow_unscored=allow_unreadable,
        options=EvaluationOptions(
            rule=None if thresholds is None else ThresholdRule.parse(thresholds),
            temperature=temperature,
            resamples=bootstrap,
            seed=seed,
            requirements=read_requirements(acceptance or ()),
        ),
    )
    with TerminalProgress() as progress:
        result, record = evaluate_request(request, progress=progress)
    report = write_evaluation(out, result, record)
    print_evaluation(result)
    print(f"report: {report}")
    write_json(json, result.as_dict())
    if result.acceptance is not None and result.acceptance.verdict != "accepted":
        if bundle_out is not None:
            say(f"{bundle_out} is not written: the model is not accepted")
        raise typer.Exit(1)
    if bundle_out is not None:
        with TerminalProgress() as progress:
            publication = export_thresholds(bundle_out, result, record, progress=progress)
        if publication.refusal is not None:
            say(publication.refusal)
            raise typer.Exit(1)
        print(f"bundle: {bundle_out}")
    report_unscored(result.unscored)


def print_evaluation(result: Evaluation) -> None:
    """Print an Evaluation as tables on stdout."""
    print(f"{result.images} images of {result.patients} patients, {result.dataset}, part {result.part}")
    print(f"decisions by {result.rule}; intervals at 95 %")
    columns = ("AUROC", "average precision", "accuracy", "sensitivity", "specificity")
    print(f"{'class':24} {'positives':>9}  " + " ".join(f"{column:22}" for column in columns))
    for c in result.classes:
        f = c.figures
        cells = (f.auroc, f.average_precision, f.accuracy, f.sensitivity, f.specificity)
        print(f"{c.name[:24]:24} {c.positives:9}  " + " ".join(f"{cell!s:22}" for cell in cells))
    if len(result.classes) > 1:
        mean = result.mean
        cells = (mean.auroc, mean.average_precision, result.accuracy, mean.sensitivity, mean.specificity)
        print(f"{'mean':24} {'':9}  " + " ".join(f"{cell!s:22}" for cell in cells))
    if result.pointing:
        print("maximum of the heatmap inside the lesion's box (findings that have one):")
        print(f"{'class':24} {'count':>6} {'heatmap':>11} {'chance':>11} {'shuffled':>11}")
        for row in result.pointing:
            fractions = (row.hits, row.chance, row.shuffled)
            texts = (f"{'not defined':>11}" if value is None else f"{value:11.3f}" for value in fractions)
            print(f"{row.name:24} {row.count:6} " + " ".join(texts))
    for comparison in result.comparisons:
        print(comparison.verdict)
    if result.acceptance is not None:
        for item in result.acceptance.judged:
            print(f"{item.requirement:40} {item.found!s:22} {item.verdict}")
        print(f"site acceptance: {result.acceptance.verdict}")


def _proportions(text: str | None) -> tuple[float, float, float] | None:
    """Three proportions from `0.7,0.15,0.15`. Raises UsageError."""
    if text is None:
        return None
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--proportions takes three shares such as 0.7,0.15,0.15; not {text!r}") from None
    return train, val, test
