"""`xrt benchmark`, `xrt evaluate`, `xrt parity` and `xrt demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from xrt.runtime.cli.output import JsonOption, progress_bar, say, write_json
from xrt.runtime.errors import MissingDependency, UsageError

BundleArgument = Annotated[Path, typer.Argument(metavar="NAME.xrt", help="The bundle to measure.")]
CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="The model that the bundle was exported from, named as for `xrt export`."),
]
WeightsOption = Annotated[str | None, typer.Option(metavar="FILE", help="Its weights, as for `xrt export`.")]
BackendOption = Annotated[str, typer.Option(help="Back end: auto, or one that `xrt doctor` lists.")]
PrecisionOption = Annotated[str, typer.Option(help="Variant: auto, fp32, fp16 or int8.")]


def benchmark(
    bundle: BundleArgument,
    checkpoint: CheckpointOption = None,
    weights: WeightsOption = None,
    batch_sizes: Annotated[str, typer.Option(help="Comma-separated batch sizes.")] = "1,8,32",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    rounds: Annotated[int, typer.Option(min=3, help="Paired rounds a race, unless --budget ends it earlier.")] = 60,
    budget: Annotated[float, typer.Option(min=0, help="Seconds a race at most; five races a batch size.")] = 60.0,
    json: JsonOption = None,
) -> None:
    """Time a bundle: explained against logits only and, with --checkpoint, against eager PyTorch and pytorch-grad-cam.

    Contenders run in one process, in random order each round. The ratio is the median of paired times over those of
    the explained bundle, with a 95 % bootstrap interval; the A/A row is the bundle against itself.

    Example: xrt benchmark pneumonia.xrt --checkpoint runs/pm --batch-sizes 1,8
    """
    from xrt.benchmarks.speed import measure_speed
    from xrt.runtime.backends import SessionOptions
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.opening import open_session

    opened_bundle = Bundle.open(bundle)
    source = None
    if checkpoint is not None:
        _require_torch("--checkpoint")
        from xrt.benchmarks.parity import source_of

        source = source_of(opened_bundle, checkpoint, weights)
    opened = open_session(opened_bundle, backend=backend, precision=precision, options=SessionOptions())
    with opened.session:
        rows = measure_speed(
            opened_bundle,
            opened,
            _sizes(batch_sizes),
            source=source,
            rounds=rounds,
            budget_s=budget,
            progress=say,
        )
    print(f"{opened.variant.file} on {opened.backend.name} {opened.backend.version()}, {opened.backend.device_class()}")
    print(f"{'contender':40} {'batch':>5} {'ms/image':>9} {'images/s':>9}  time over the explained bundle's")
    for row in rows:
        paired = f"{row.ratio}  ({row.ratio.rounds} rounds)"
        rate = 1e3 / row.ms_per_image
        print(f"{row.contender:40} {row.batch_size:5} {row.ms_per_image:9.2f} {rate:9.1f}  {paired}")
    write_json(json, [{**vars(row), "ratio": vars(row.ratio)} for row in rows])


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
    from xrt.runtime.cases import open_cases
    from xrt.runtime.opening import open_session

    opened_bundle = Bundle.open(bundle)
    names = [c.name for c in opened_bundle.manifest.classes]
    table, part = select_part(open_cases(dataset, classes=names, ignore=None), split)
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


def parity(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Radiographs to compare on.")],
    checkpoint: CheckpointOption = None,
    weights: WeightsOption = None,
    batch_sizes: Annotated[str, typer.Option(help="Comma-separated batch sizes of the bundle's runs.")] = "1,7",
    limit: Annotated[int, typer.Option(min=1, help="Use at most so many images, spread evenly.")] = 64,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    json: JsonOption = None,
) -> None:
    """Hold a bundle against its model on your images: torch autograd, and pytorch-grad-cam, at the same tensor.

    Exits 1, with the figures, when a limit of the gate is missed or when too few maps are non-zero to prove anything.

    Example: xrt parity pneumonia.xrt --images incoming/ --checkpoint runs/pm
    """
    _require_torch("parity")
    from xrt.benchmarks.parity import MIN_NONZERO, compare, compile_for, source_of
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.gate import LIMITS
    from xrt.runtime.gate.evidence import folder_inputs
    from xrt.runtime.opening import open_session

    opened_bundle = Bundle.open(bundle)
    spec = opened_bundle.manifest.preprocessing
    inputs = folder_inputs(images, spec, limit=limit, skipped=lambda reason: say(f"left out: {reason}"))
    say("tracing the model")
    reference = compile_for(opened_bundle, source_of(opened_bundle, checkpoint, weights)).reference
    opened = open_session(opened_bundle, backend=backend, precision=precision)
    with opened.session:
        rows = compare(opened_bundle, opened, reference, inputs.images, _sizes(batch_sizes), progress=say)
    limits = LIMITS[opened.variant.precision]
    columns = [*(name for name in limits if name != "auroc_drop"), "maps_nonzero"]
    print(f"{len(inputs.images)} images, {opened.variant.file} on {opened.backend.name}")
    print(f"{'reference':18} {'batch':>5}  " + " ".join(f"{name:>22}" for name in columns) + "  verdict")
    for row in rows:
        values = row.figures.as_dict()
        print(
            f"{row.reference:18} {row.batch_size:5}  "
            + " ".join(f"{values[name]:22.3g}" for name in columns)
            + f"  {row.verdict}"
        )
    bounds = " ".join(f"{limits[name]:22g}" if name in limits else f"{MIN_NONZERO:22g}" for name in columns)
    print(f"{'limit':18} {'':5}  {bounds}")
    write_json(json, [{**vars(row), "figures": row.figures.as_dict()} for row in rows])
    if bad := [row for row in rows if row.verdict != "passed"]:
        for row in bad:
            say(f"{row.reference}, batch {row.batch_size}: {'; '.join(row.reasons)}")
        raise typer.Exit(1)


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for everything that the demonstration makes.")
    ] = Path("out/demo"),
    count: Annotated[int, typer.Option(min=200, help="Phantoms to make; a fifth is held out.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the phantoms and of the training.")] = 0,
    json: JsonOption = None,
) -> None:
    """Walk the whole road on synthetic radiographs: make, train, export, certify, evaluate, screen, compare speed.

    Takes a few minutes on two cores and ends at an HTML worklist with heatmaps that were made without PyTorch.
    """
    _require_torch("demo")
    from xrt.benchmarks.demo import run_demo

    result = run_demo(out, count=count, seed=seed, say=say)
    print_evaluation(result.evaluation)
    print(f"speed at batch 8: {result.speedup_sentence}")
    print(f"report: {result.report}")
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


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch-sizes takes whole numbers from 1 up, such as 1,8,32; not {text!r}")
    return sizes


def _require_torch(what: str) -> None:
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "pytorch_grad_cam", "xrt.export")):
        raise MissingDependency(f"{what} compares with PyTorch: pip install 'xrt-benchmarks[torch]'")
