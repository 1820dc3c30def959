"""A recipe's grid as a list of runs, and what is recorded of each."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrt.runtime.errors import UsageError
from xrt.train.recipes.loading import load_recipe
from xrt.train.recipes.spec import Recipe

RECORD = "record.json"


@dataclass(frozen=True)
class Cell:
    """One configuration of the grid: its number from 1, and the values that it changes as JSON texts by key."""

    number: int
    values: dict[str, str]

    @property
    def overrides(self) -> list[str]:
        """The changes as `--set` takes them; JSON is YAML."""
        return [f"{key}={value}" for key, value in self.values.items()]

    @property
    def name(self) -> str:
        """A folder name that says what is changed."""
        changes = "-".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in self.values.items())
        return f"{self.number:03d}-{re.sub(r'[^A-Za-z0-9_.=+-]+', '_', changes)[:100]}"


def grid_of(name_or_path: str, overrides: Sequence[str]) -> tuple[Recipe, list[Cell]]:
    """A recipe and every configuration of its grid, in the order of its keys, the last changing fastest.

    Raises UsageError if the recipe has no grid, DataError if a configuration is no recipe.
    """
    recipe = load_recipe(name_or_path, overrides)
    if not recipe.search or not all(recipe.search.values()):
        raise UsageError(
            f"recipe {recipe.name} has no grid; give each key that is to vary its values:"
            " --set 'search={optim.lr: [1.0e-3, 1.0e-4], training.batch_size: [16, 32]}'"
        )
    texts = [[json.dumps(value) for value in values] for values in recipe.search.values()]
    cells = [
        Cell(number, dict(zip(recipe.search, chosen, strict=True)))
        for number, chosen in enumerate(itertools.product(*texts), 1)
    ]
    for cell in cells:
        load_recipe(name_or_path, [*overrides, *cell.overrides])
    return recipe, cells


def ended(folder: Path) -> bool:
    """Whether a run has ended well: it has a record, and not one of a failure."""
    file = folder / RECORD
    return file.is_file() and json.loads(file.read_text(encoding="utf-8"))["error"] is None


def records(out: Path, cells: list[Cell]) -> list[dict[str, Any]]:
    """The records of the configurations that have ended, the best first and those that failed last."""
    found = []
    for cell in cells:
        file = out / cell.name / RECORD
        if file.is_file():
            found.append(json.loads(file.read_text(encoding="utf-8")))
    # For a loss, less is better.
    return sorted(
        found,
        key=lambda r: (
            r["error"] is not None,
            0 if r["value"] is None else r["value"] * (1 if r["lower_is_better"] else -1),
        ),
    )
