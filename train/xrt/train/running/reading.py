"""The parts of a data set, every image read once before training: what is damaged is known before hours are spent."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from xrt.runtime.cases.table import Splits
from xrt.train.data.dataset import CaseDataset, fits_in_memory
from xrt.train.recipes.spec import Recipe


def read_parts(splits: Splits, recipe: Recipe, *, show: bool) -> dict[str, CaseDataset]:
    """The data set of every part, kept in memory if `data.cache_mib` allows it; `show` draws a bar on standard error.

    Raises DataError naming images that cannot be read.
    """
    total = sum(map(len, splits))
    cached = fits_in_memory(total, recipe.preprocessing, recipe.data.cache_mib)
    columns = TextColumn("reading images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not show) as bar:
        task = bar.add_task("", total=total)
        parts = {
            name: CaseDataset(table, recipe.preprocessing, cached=cached, seen=lambda images: bar.advance(task, images))
            for name, table in splits.named().items()
        }
        for part in parts.values():
            part.survey  # noqa: B018 (read now, kept for later)
    return parts
