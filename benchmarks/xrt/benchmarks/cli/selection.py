"""What commands about a labelled data set share: which of its cases are used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Optional

import typer

if TYPE_CHECKING:
    from xrt.benchmarks.evaluation.measure.selection import CasePart
    from xrt.runtime.bundle.reader import Bundle

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
        "--allow-unreadable", min=0, max=1, help="The fraction of images that may be unreadable before it is an error."
    ),
]


@dataclass(frozen=True)
class CaseSelection:
    """Which cases of a data set are used, as the options of a command say."""

    dataset: Path
    split: Literal["auto", "train", "val", "test", "all"]
    split_file: Path | None
    limit: int | None

    def open(self, bundle: Bundle) -> CasePart:
        """The cases, with the bundle's classes. Raises DataError."""
        import numpy as np

        from xrt.benchmarks.evaluation.measure.selection import CasePart, select_part, split_by_file
        from xrt.runtime.datasets import open_dataset_for

        whole = open_dataset_for(bundle.manifest, self.dataset)
        table, part = select_part(
            whole if self.split_file is None else split_by_file(whole, self.split_file), self.split
        )
        if self.limit is not None and self.limit < len(table):
            table = table.subset(np.linspace(0, len(table) - 1, self.limit).round().astype(int).tolist())
        return CasePart(table, part)
