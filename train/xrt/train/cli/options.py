"""What both commands share: arguments, and the error for an extra that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xrt.runtime.errors import MissingDependency

RecipeArgument = Annotated[str, typer.Argument(help="A recipe's name, or a YAML file.")]
DataOption = Annotated[Path, typer.Option(help="The labelled data set: a folder or a file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe; repeatable."),
]


@contextmanager
def require_extra(extra: str, *packages: str) -> Iterator[None]:
    """Raise MissingDependency, naming the extra, where one of the packages cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in packages:
            raise
        raise MissingDependency(
            f"this needs {error.name}, which is not installed: pip install 'xrt-train[{extra}]'"
        ) from error
