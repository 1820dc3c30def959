"""What the commands share: options, and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.errors import MissingDependency, UsageError

BundleArgument = Annotated[Path, typer.Argument(metavar="NAME.xrt", help="The bundle to measure.")]
CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="The model that the bundle was exported from, named as for `xrt export`."),
]
WeightsOption = Annotated[str | None, typer.Option(metavar="FILE", help="Its weights, as for `xrt export`.")]
BackendOption = Annotated[str, typer.Option(help="Back end: auto, or one that `xrt doctor` lists.")]
PrecisionOption = Annotated[str, typer.Option(help="Variant: auto, fp32, fp16 or int8.")]


def batch_sizes(text: str) -> tuple[int, ...]:
    """Whole numbers from `1,8,32`. Raises UsageError."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch-sizes takes whole numbers from 1 up, such as 1,8,32; not {text!r}")
    return sizes


def require_torch_extra(feature: str) -> None:
    """Raise MissingDependency unless the extra `torch` is installed, which `feature` needs."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("torch", "pytorch_grad_cam", "xrt.export")):
        raise MissingDependency(f"{feature} compares with PyTorch: pip install 'xrt-benchmarks[torch]'")
