"""What commands about a labelled data set share: which of its cases are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

from xrt.runtime.cli.output import say
from xrt.runtime.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xrt.benchmarks.scoring import Unscored
    from xrt.runtime.bundle.reader import Bundle
    from xrt.runtime.cases import CaseTable

DatasetArgument = Annotated[
    Path, typer.Argument(metavar="DATASET", help="A labelled data set: a folder, a CSV of paths and labels, or .npz.")
]
SplitOption = Annotated[
    Literal["auto", "train", "val", "test", "all"],
    typer.Option(help="Which part; auto is the test part where there is one, else all cases."),
]
SplitFileOption = Annotated[
    Optional[Path],  # noqa: UP045 (typer)
    typer.Option(
        metavar="FILE", help="The parts that training made: split.csv of its run. Default: the official ones."
    ),
]
LimitOption = Annotated[
    Optional[int],  # noqa: UP045 (typer)
    typer.Option(min=1, metavar="N", help="At most N cases, evenly spaced through the part."),
]
UnreadableOption = Annotated[
    float,
    typer.Option(
        "--allow-unreadable", min=0, max=1, help="The share of images that may be unreadable before it is an error."
    ),
]


def open_part(
    bundle: Bundle,
    dataset: Path,
    split: Literal["auto", "train", "val", "test", "all"],
    split_file: Path | None,
    limit: int | None,
) -> tuple[CaseTable, str]:
    """The cases of a part, with the bundle's classes. Raises DataError."""
    import numpy as np

    from xrt.benchmarks.evaluation.selection import select_part, split_by_file
    from xrt.runtime.cases import cases_for

    whole = cases_for(bundle.manifest, dataset)
    table, part = select_part(whole if split_file is None else split_by_file(whole, split_file), split)
    if limit is not None and limit < len(table):
        table = table.subset(np.linspace(0, len(table) - 1, limit).round().astype(int).tolist())
    return table, part


def numbers_of(text: str, option: str) -> tuple[float, ...]:
    """Numbers from `0.2,0.4`. Raises UsageError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers, such as 0.2,0.4; not {text!r}") from None


def report_unscored(unscored: Sequence[Unscored]) -> None:
    """Say what could not be scored and exit with 3, if there is anything."""
    if unscored:
        images = "1 image" if len(unscored) == 1 else f"{len(unscored)} images"
        say(f"{images} could not be scored, the first: {unscored[0].key}: {unscored[0].reason}")
        raise typer.Exit(3)
