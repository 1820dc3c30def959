"""`xrt parity`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.benchmarks.cli.options import (
    BackendOption,
    BundleArgument,
    CheckpointOption,
    PrecisionOption,
    WeightsOption,
    batch_sizes,
    require_torch_extra,
)
from xrt.benchmarks.cli.output import PrintedProgress
from xrt.runtime.cli.output import JsonOption, say, write_json


def parity(
    bundle: BundleArgument,
    images: Annotated[Path, typer.Option(metavar="DIR", help="Radiographs to compare on.")],
    checkpoint: CheckpointOption = None,
    weights: WeightsOption = None,
    sizes: Annotated[
        str, typer.Option("--batch-sizes", help="Comma-separated batch sizes of the bundle's runs.")
    ] = "1,7",
    limit: Annotated[int, typer.Option(min=1, help="Use at most so many images, spread evenly.")] = 64,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    json: JsonOption = None,
) -> None:
    """Compare a bundle with its model on your images: torch autograd, and pytorch-grad-cam, at the same tensor.

    Exits 1, with the figures, when a limit of the gate is missed or when too few maps are non-zero to prove anything.

    Example: xrt parity pneumonia.xrt --images incoming/ --checkpoint runs/pm
    """
    require_torch_extra("parity")
    from xrt.benchmarks.parity import MIN_NONZERO, compare, compile_for, source_of
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.certification.inputs import folder_inputs
    from xrt.runtime.gate import LIMITS
    from xrt.runtime.session import open_session

    compared_sizes = batch_sizes(sizes)
    progress, measured_bundle = PrintedProgress(), Bundle.open(bundle)
    inputs = folder_inputs(images, measured_bundle.manifest.preprocessing, limit=limit, progress=progress)
    progress.step("tracing the model")
    reference = compile_for(measured_bundle, source_of(measured_bundle, checkpoint, weights)).reference
    with open_session(measured_bundle, backend=backend, precision=precision) as opened:
        rows = compare(opened, reference, inputs.images, compared_sizes, progress=progress)
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
    if failures := [row for row in rows if row.verdict != "passed"]:
        for row in failures:
            say(f"{row.reference}, batch {row.batch_size}: {'; '.join(row.reasons)}")
        raise typer.Exit(1)
