"""The parts of a data set. Every image is read once before training: damaged ones are known before hours are spent."""

from __future__ import annotations

from xrt.runtime.datasets.table import Splits
from xrt.runtime.progress import SILENT, Progress
from xrt.train.data.dataset import CaseDataset, fits_in_memory
from xrt.train.recipes.spec import Recipe


def read_parts(splits: Splits, recipe: Recipe, progress: Progress = SILENT) -> dict[str, CaseDataset]:
    """The data set of every part, kept in memory if `data.cache_mib` allows it.

    Raises DataError naming images that cannot be read.
    """
    total = sum(map(len, splits))
    cached = fits_in_memory(total, recipe.preprocessing, recipe.data.cache_mib)
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        progress.count(done, total, "reading images")

    parts = {
        name: CaseDataset(table, recipe.preprocessing, cached=cached, advance=advance)
        for name, table in splits.named().items()
    }
    for part in parts.values():
        part.survey  # noqa: B018 (read now, kept for later)
    return parts
