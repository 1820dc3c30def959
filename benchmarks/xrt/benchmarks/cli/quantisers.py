"""Write the table of docs/precision.md.

python -m xrt.benchmarks.cli.quantisers --pneumoniamnist pneumoniamnist.npz --work quantisers/ --out docs/precision.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.benchmarks.cli.output import PrintedProgress


def quantisers(
    pneumoniamnist: Annotated[Path, typer.Option(help="The MedMNIST file.")],
    work: Annotated[Path, typer.Option(help="Folder for phantoms and trained networks.")],
    out: Annotated[Path, typer.Option(help="The page whose table is replaced.")],
    budget: Annotated[float, typer.Option(help="Seconds for each race.")] = 6.0,
) -> None:
    """Compare all quantisers on small networks trained here, and write the table."""
    from xrt.benchmarks.quantisers import write_table

    write_table(pneumoniamnist, work, out, budget_s=budget, progress=PrintedProgress())
    print(f"table: {out}")


if __name__ == "__main__":
    typer.run(quantisers)
