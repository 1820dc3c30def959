"""`xrt doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.cli.output import JsonOption, TrustOption, write_json


def doctor(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[NAME.xrt]", help="Also open this bundle on every back end.")
    ] = None,
    trust: TrustOption = None,
    json: JsonOption = None,
) -> None:
    """Say what this machine can run, and what is wrong with it.

    Checks the Python packages for pairs that break each other, every back end for what it lacks, image decoders,
    and, given a bundle, its hashes and known answers on each back end. Exits 1 when something is broken.
    """
    from xrt.runtime.doctor import examine

    report = examine(bundle, trust)
    width = max(len(check.name) for check in report)
    for check in report:
        print(f"{check.state:7} {check.name:{width}}  {check.finding}")
    write_json(json, [vars(check) for check in report])
    if any(check.state == "broken" for check in report):
        raise typer.Exit(1)
