"""`xrt benchmark`."""

from __future__ import annotations

from typing import Annotated

import typer

from xrt.benchmarks.cli.options import (
    BackendOption,
    BundleArgument,
    CheckpointOption,
    PrecisionOption,
    WeightsOption,
    batch_sizes_of,
    require_torch,
)
from xrt.runtime.cli.output import JsonOption, say, write_json


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
    from xrt.benchmarks.speed.measure import measure_speed
    from xrt.runtime.backends import SessionOptions
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.opening import open_session

    opened_bundle = Bundle.open(bundle)
    source = None
    if checkpoint is not None:
        require_torch("--checkpoint")
        from xrt.benchmarks.parity import source_of

        source = source_of(opened_bundle, checkpoint, weights)
    opened = open_session(opened_bundle, backend=backend, precision=precision, options=SessionOptions())
    with opened.session:
        rows = measure_speed(
            opened_bundle,
            opened,
            batch_sizes_of(batch_sizes),
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
