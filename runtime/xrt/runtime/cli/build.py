"""`xrt build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xrt.runtime.cli.output import JsonOption, TerminalProgress, TrustOption, comma_separated, say, write_json

if TYPE_CHECKING:
    from xrt.runtime.engine_builds import EngineBuild


def build(
    bundle: Annotated[Path, typer.Argument(metavar="NAME.xrt", help="The bundle whose engines to build.")],
    targets: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="SM,...",
            help="GPUs to build for ahead of time, by compute capability: sm86 (RTX 30, A10), sm89 (RTX 40, L4), sm120 "
            "(RTX 50). No GPU is needed; TensorRT for RTX alone can do it. Default: the GPU that is here.",
        ),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="tensorrt (servers, Jetson), tensorrt-rtx (RTX workstations), or auto.")
    ] = "auto",
    precision: Annotated[
        str, typer.Option(metavar="P,...", help="Variants: all that a GPU may run, or some of fp32, fp16, int8.")
    ] = "all",
    max_batch: Annotated[
        int, typer.Option(min=1, max=1024, help="The largest batch that an engine takes in one run; memory follows.")
    ] = 32,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the engines, with --for; default: this machine's cache."),
    ] = None,
    install: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Build nothing: take the engines that --out wrote to FOLDER into this machine's cache. An engine is "
            "code; only folders that you trust belong here.",
        ),
    ] = None,
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Build TensorRT engines of a bundle, for this machine's GPU or ahead of time for others.

    Every file is checked before NVIDIA's parser sees it, and the types of the parsed network are compared with the
    variant: an "fp16" that computes in fp32 is refused. An engine for the GPU that is here is run on the bundle's known
    answers; of one built ahead the verdict is "built, not yet run". Back ends take engines from the cache, and build
    missing ones by themselves, so this command only saves the waiting time.

    Examples:

      xrt build chest.xrt --for sm86,sm89 --out engines/

      xrt build chest.xrt --install engines/
    """
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.engine_builds import build_engines, install_engines, plan_builds
    from xrt.runtime.errors import UsageError
    from xrt.runtime.tensorrt.builder import Batches
    from xrt.runtime.tensorrt.engine_cache import default_folder

    if out is not None and install is not None:
        raise UsageError("--install takes engines into this machine's cache: leave out --out")
    if out is not None and targets is None:
        raise UsageError("--out goes with --for: engines for this machine belong in its cache")
    opened = Bundle.open(bundle, trust=trust)
    precisions = () if precision == "all" else comma_separated("--precision", precision.lower(), "fp32,fp16")
    plan = plan_builds(opened, backend, gpu_targets(targets), precisions)
    for reason in plan.left_out:
        say(f"left out: {reason}")
    results = []
    with TerminalProgress() as progress:
        engines = (
            build_engines(opened, plan, Batches.up_to(max_batch), folder=out, progress=progress)
            if install is None
            else install_engines(opened, plan, install, progress=progress)
        )
        for result in engines:
            results.append(result)
            print(_line(result))
    print(f"engines: {out or default_folder()}")
    write_json(json, [result.as_dict() for result in results])
    if failures := [result for result in results if not result.ok]:
        say(f"{len(failures)} of {len(results)} engines are not there, or do not reproduce their known answers")
        raise typer.Exit(1)


def gpu_targets(text: str | None) -> tuple[str, ...]:
    """Compute capabilities from `sm86,sm89`; none for None. Raises UsageError."""
    return comma_separated("--for", None if text is None else text.lower(), "sm86,sm89")


def _line(result: EngineBuild) -> str:
    head = f"{result.precision} {result.compute_capability} {result.backend}"
    if not result.ok:
        return f"{head}: refused: {result.verdict}"
    if result.network_report is None:
        return f"{head}: {result.plan_bytes / 1e6:.1f} MB: {result.verdict}"
    return (
        f"{head}: {result.plan_bytes / 1e6:.1f} MB in {result.seconds:.1f} s, Conv {result.network_report.conv}, "
        f"MatMul {result.network_report.matmul}: {result.verdict}"
    )
