"""`xrt parity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from xrt.runtime.cli.output import JsonOption, TrustOption, say, write_json
from xrt.runtime.errors import BundleError, UsageError

if TYPE_CHECKING:
    from xrt.benchmarks.parity import ParityRow
    from xrt.runtime.bundle.manifest import Precision
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.certification.drift import Drift
    from xrt.runtime.session import OpenedSession


def parity(
    bundle: BundleArgument,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Radiographs to compare on, and those that --verify-inputs names."),
    ] = None,
    checkpoint: CheckpointOption = None,
    weights: WeightsOption = None,
    verify_inputs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz|DIR",
            help="What the original pipeline made of radiographs, as for xrt export: inputs, probabilities and "
            "decisions are compared with it. Without --images, only that is done, and PyTorch is not needed.",
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option("--batch-sizes", help="Comma-separated batch sizes of the bundle's runs.")
    ] = "1,7",
    limit: Annotated[int, typer.Option(min=1, help="Use at most so many images, spread evenly.")] = 64,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Compare a bundle with its model on your images: torch autograd, and pytorch-grad-cam, at the same tensor.

    With --verify-inputs also the whole way from the files: whether its inputs and decisions are those of the pipeline
    that the model comes from. Exits 1, with the figures, when a limit of the gate is missed or when too few maps are
    non-zero to prove anything.

    Examples:

      xrt parity pneumonia.xrt --images incoming/ --checkpoint runs/pm

      xrt parity pneumonia.xrt --verify-inputs made.npz
    """
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.session import open_session

    if images is None and verify_inputs is None:
        raise UsageError("nothing to compare on: name a folder of radiographs with --images, or --verify-inputs")
    compared_sizes = batch_sizes(sizes)
    measured_bundle = Bundle.open(bundle, trust=trust)
    reference = None
    if images is not None:
        require_torch_extra("parity")
        reference = _reference(measured_bundle, images, checkpoint, weights, limit)
    with open_session(measured_bundle, backend=backend, precision=precision) as opened:
        rows = [] if reference is None else reference(opened, compared_sizes)
        drift = None if verify_inputs is None else _drift(opened, verify_inputs, images)
    print(f"{opened.variant.file} on {opened.backend.name}")
    if rows:
        _print_rows(rows, opened.variant.precision)
    if drift is not None:
        _print_drift(drift)
    compared = [{**vars(row), "figures": row.figures.as_dict()} for row in rows]
    write_json(json, compared if drift is None else {"reference": compared, "original": vars(drift)})
    failures = [f"{row.reference}, batch {row.batch_size}: {'; '.join(row.reasons)}" for row in rows if row.reasons]
    failures += drift.reasons if drift else ()
    for failure in failures:
        say(failure)
    if failures:
        raise typer.Exit(1)


def _reference(
    bundle: Bundle, images: Path, checkpoint: str | None, weights: str | None, limit: int
) -> Callable[[OpenedSession, Sequence[int]], list[ParityRow]]:
    """Compares a session of the bundle with its model."""
    from xrt.benchmarks.parity import compare, compile_for, source_of
    from xrt.runtime.certification.inputs import folder_inputs

    progress = PrintedProgress()
    inputs = folder_inputs(images, bundle.manifest.preprocessing, limit=limit, progress=progress)
    progress.step("tracing the model")
    reference = compile_for(bundle, source_of(bundle, checkpoint, weights)).reference
    print(f"{len(inputs.images)} images")
    return lambda opened, sizes: compare(opened, reference, inputs.images, sizes, progress=progress)


def _drift(opened: OpenedSession, verify_inputs: Path, images: Path | None) -> Drift:
    """The session's way from the files to decisions against the original pipeline's.

    A faster variant may add what its own precision may change.
    """
    from dataclasses import replace

    from xrt.runtime.certification.drift import PipelineComparison
    from xrt.runtime.certification.original import read_original
    from xrt.runtime.gate import LIMITS

    manifest, precision = opened.manifest, opened.variant.precision
    normalisation = manifest.provenance.normalisation
    if not normalisation:
        raise BundleError(f"{opened.bundle.path} does not say how its input is normalised: export the model again")
    pipeline = PipelineComparison.of(
        read_original(verify_inputs, images), manifest.preprocessing, (normalisation["mean"], normalisation["std"])
    )
    drift = pipeline.whole(lambda inputs: opened.session.infer_all(inputs).logits, manifest)
    if precision == "fp32":
        return drift
    own, limits = LIMITS[precision], dict(drift.limits)
    limits["source_change_p95"] += own.get("probability_change_p95", own["probability_change_max"])
    limits["source_change_max"] += own["probability_change_max"]
    limits["source_flips"] += own["flips"]
    return replace(drift, limits=limits)


def _print_rows(rows: list[ParityRow], precision: Precision) -> None:
    from xrt.benchmarks.parity import MIN_NONZERO
    from xrt.runtime.gate import LIMITS

    limits = LIMITS[precision]
    columns = [*(name for name in limits if name != "auroc_drop"), "maps_nonzero"]
    print(f"{'reference':18} {'batch':>5}  " + " ".join(f"{name:>22}" for name in columns) + "  verdict")
    for row in rows:
        values = row.figures.as_dict()
        print(
            f"{row.reference:18} {row.batch_size:5}  "
            + " ".join(_cell(values[name]) for name in columns)
            + f"  {row.verdict}"
        )
    bounds = " ".join(f"{limits[name]:22g}" if name in limits else f"{MIN_NONZERO:22g}" for name in columns)
    print(f"{'limit':18} {'':5}  {bounds}")


def _cell(value: Any) -> str:
    return f"{'not proved':>22}" if value is None else f"{value:22.3g}"


def _print_drift(drift: Drift) -> None:
    print(f"original pipeline: {drift.images} images of {drift.source}")
    for name, value in drift.figures.items():
        print(f"  {name:24} {value:10.4g}   at most {drift.limits[name]:.4g}")
