"""A recipe's grid as a list of configurations, and what is recorded of each."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrt.runtime.errors import UsageError
from xrt.train.recipes.loader import load_recipe
from xrt.train.recipes.spec import Recipe

RECORD = "record.json"


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid: its number from 1, the values that it changes, as JSON by key, and its recipe."""

    number: int
    values: dict[str, str]
    recipe: Recipe

    @property
    def name(self) -> str:
        """A folder name that says what is changed."""
        changes = "-".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in self.values.items())
        return f"{self.number:03d}-{re.sub(r'[^A-Za-z0-9_.=+-]+', '_', changes)[:100]}"

    @property
    def overrides(self) -> list[str]:
        """The changes as `--set` takes them."""
        return _overrides(self.values)


@dataclass(frozen=True)
class Grid:
    """A recipe and every configuration of its grid, in the order of its keys, the last changing fastest."""

    recipe: Recipe
    cells: tuple[Cell, ...]


def load_grid(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Grid:
    """The grid of that recipe, after `key=value` overrides.

    Raises UsageError if the recipe has no grid, one of its keys lies inside another, or two configurations are the same
    recipe; DataError if one is no recipe.
    """
    recipe = load_recipe(name_or_path, overrides)
    if not recipe.search or not all(recipe.search.values()):
        raise UsageError(
            f"recipe {recipe.name} has no grid; give each key that is to vary its values:"
            " --set 'search={optim.lr: [1.0e-3, 1.0e-4], training.batch_size: [16, 32]}'"
        )
    for inner, outer in itertools.permutations(recipe.search, 2):
        if inner.startswith(f"{outer}."):
            raise UsageError(f"the grid varies {outer} and {inner}, which is inside it; vary one of them (search)")
    texts = [[json.dumps(value) for value in values] for values in recipe.search.values()]
    cells = []
    names: dict[str, str] = {}
    for number, combination in enumerate(itertools.product(*texts), 1):
        values = dict(zip(recipe.search, combination, strict=True))
        cell = Cell(number, values, load_recipe(name_or_path, [*overrides, *_overrides(values)]))
        if (twin := names.setdefault(cell.recipe.model_dump_json(), cell.name)) != cell.name:
            raise UsageError(f"runs {twin} and {cell.name} of the grid are the same recipe; keep one of them (search)")
        cells.append(cell)
    return Grid(recipe, tuple(cells))


def _overrides(values: dict[str, str]) -> list[str]:
    # JSON is YAML.
    return [f"{key}={value}" for key, value in values.items()]


def record_of(folder: Path) -> dict[str, Any] | None:
    """The record of a run that has ended; None without one, and for a damaged one, which is made again."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record if isinstance(record, dict) and {"run", "value", "error", "lower_is_better"} <= set(record) else None


def has_succeeded(folder: Path) -> bool:
    """Whether a run has a record, and not one of a failure."""
    record = record_of(folder)
    return record is not None and record["error"] is None


def ranking(out: Path, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The records of the configurations that have ended, the best first and those that failed last."""
    records = [record for cell in cells if (record := record_of(out / cell.name)) is not None]
    # For a loss, less is better.
    return sorted(
        records,
        key=lambda r: (
            r["error"] is not None,
            0 if r["value"] is None else r["value"] * (1 if r["lower_is_better"] else -1),
        ),
    )
