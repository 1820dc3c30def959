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
    batch_sizes,
    require_torch_extra,
)
from xrt.benchmarks.cli.output import PrintedProgress
from xrt.runtime.cli.output import JsonOption, TrustOption, write_json


def benchmark(
    bundle: BundleArgument,
    checkpoint: CheckpointOption = None,
    weights: WeightsOption = None,
    sizes: Annotated[str, typer.Option("--batch-sizes", help="Comma-separated batch sizes.")] = "1,8,32",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    rounds: Annotated[int, typer.Option(min=3, help="Paired rounds per race, unless --budget ends it earlier.")] = 60,
    budget: Annotated[float, typer.Option(min=0, help="Seconds per race at most; five races per batch size.")] = 60.0,
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Time a bundle: explained against logits only and, with --checkpoint, against eager PyTorch and pytorch-grad-cam.

    Contenders run in one process, in random order each round. The ratio is the median of paired times over those of
    the explained bundle, with a 95 % bootstrap interval; the A/A row is the bundle against itself.

    Example: xrt benchmark pneumonia.xrt --checkpoint runs/pm --batch-sizes 1,8
    """
    from xrt.benchmarks.speed.measure import SpeedOptions, measure_speed
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.session import open_session

    options = SpeedOptions(batch_sizes(sizes), rounds, budget)
    measured_bundle = Bundle.open(bundle, trust=trust)
    source = None
    if checkpoint is not None:
        require_torch_extra("--checkpoint")
        from xrt.benchmarks.parity import source_of

        source = source_of(measured_bundle, checkpoint, weights)
    with open_session(measured_bundle, backend=backend, precision=precision) as opened:
        rows = measure_speed(opened, options, source=source, progress=PrintedProgress())
    print(f"{opened.variant.file} on {opened.backend.name} {opened.backend.version()}, {opened.backend.device_class()}")
    print(f"{'contender':40} {'batch':>5} {'ms/image':>9} {'images/s':>9}  time over the explained bundle's")
    for row in rows:
        paired = f"{row.ratio}  ({row.ratio.rounds} rounds)"
        rate = 1e3 / row.ms_per_image
        print(f"{row.contender:40} {row.batch_size:5} {row.ms_per_image:9.2f} {rate:9.1f}  {paired}")
    write_json(json, [{**vars(row), "ratio": vars(row.ratio)} for row in rows])
