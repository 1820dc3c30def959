"""`xrt phantoms`: write synthetic radiographs in the layout of a public data set."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from xrt.runtime.cli.output import TerminalProgress


class Layout(str, Enum):
    """Public data sets whose layout phantoms can take."""

    nih = "nih"
    rsna = "rsna"
    covid = "covid"


def phantoms(
    out: Annotated[Path, typer.Argument(help="Folder to write. It must be absent or empty.")],
    layout: Annotated[
        Layout,
        typer.Option(
            help="Whose files to imitate: nih (ChestX-ray14: PNG, labels, boxes, official lists), rsna"
            " (pneumonia challenge: DICOM, needs pydicom) or covid (radiography database: four class"
            " folders with lung masks)."
        ),
    ] = Layout.nih,
    count: Annotated[
        int,
        typer.Option(
            min=1, help="How many images. 100 show what a layout is like; 1500 train a small network, 4000 a good one."
        ),
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, help="The same seed gives the same bytes; another one, other patients.")
    ] = 0,
    size: Annotated[
        Optional[int],  # noqa: UP045 (typer reads this at run time, on Python 3.10 too)
        typer.Option(min=64, help="Side of the images in pixels. Default: 512; 299, the data set's own, for covid."),
    ] = None,
    contrast: Annotated[
        tuple[float, float],
        typer.Option(
            metavar="LOW HIGH",
            help="Range of the lesions' contrast-to-noise ratio: 18 is hardly visible, 110 is obvious.",
        ),
    ] = (18.0, 110.0),
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Processes. Default: one per core. The result does not depend on it."),
    ] = None,
) -> None:
    """Write synthetic chest radiographs with labels and boxes, to try everything without patients' data.

    Each image is computed: a random body, its bones, vessels and lesions, and the film behind them. Labels,
    boxes and contrasts are therefore known exactly. Every file says that it is synthetic; none is fit for
    judging patients.
    """
    from xrt.runtime.phantoms import write

    with TerminalProgress("phantoms") as progress:
        write(
            out,
            layout=layout.value,
            count=count,
            seed=seed,
            size=size,
            contrast=contrast,
            workers=workers,
            progress=progress,
        )
    print(f"{out}: {count} synthetic radiographs in the {layout.value} layout, seed {seed}")
