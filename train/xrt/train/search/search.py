"""`search`: every configuration of a recipe's grid, one after another, on as many machines as share the folder.

Optuna keeps the trials in a journal file, which may lie on a network file system: each machine asks it for the next
configuration, and a lock on the run's folder shows whether the machine that took one is still at work.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from xrt.runtime.errors import ModelError, UsageError, XrtError
from xrt.runtime.files import require_writable, write_durably
from xrt.train.checkpoint import SPEC
from xrt.train.recipes.loading import load_recipe
from xrt.train.recipes.spec import Recipe
from xrt.train.running.fit import fit
from xrt.train.search.grid import RECORD, Cell, ended, grid_of, record_of, records

JOURNAL, GRID = "journal.log", "grid.json"


def search(
    name_or_path: str,
    overrides: Sequence[str],
    data: Path,
    out: Path,
    *,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Train every configuration that has no record yet, at most `limit` of them, each from a fresh start.

    Each run is a folder of `out` with its own `record.json`, written as the run ends; an interrupted one is taken up
    where it was. A configuration that cannot be trained is recorded with the reason, the next one follows, and another
    search tries it again. Returns all records, the best on validation first. Raises UsageError if the recipe has no
    grid or `out` holds another, ModelError if its files are damaged.
    """
    recipe, cells = grid_of(name_or_path, overrides)
    study = _study(recipe, cells, out, overrides)
    by_values = {json.dumps(cell.values, sort_keys=True): cell for cell in cells}
    space: dict[str, BaseDistribution] = {
        key: CategoricalDistribution(sorted({cell.values[key] for cell in cells})) for key in recipe.search
    }
    _enqueue(study, cells, out)
    done = 0
    while (limit is None or done < limit) and study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        trial = study.ask(space)
        cell = by_values[json.dumps(trial.params, sort_keys=True)]
        folder = out / cell.name
        try:
            with FileLock(_lock(folder), timeout=0):
                if not ended(folder):
                    say(f"run {cell.number} of {len(cells)}: {', '.join(cell.overrides)}")
                    _run(name_or_path, overrides, cell, data, folder, say)
                    done += 1
                record = record_of(folder)
        except Timeout:
            # Another machine is at it.
            study.tell(trial, state=TrialState.FAIL)
            continue
        if record is None or record["value"] is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, record["value"])
    return records(out, cells)


def _study(recipe: Recipe, cells: list[Cell], out: Path, overrides: Sequence[str]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    require_writable(out, out)
    out.mkdir(parents=True, exist_ok=True)
    grid = {"recipe": recipe.model_dump(mode="json"), "runs": {cell.name: cell.values for cell in cells}}
    with FileLock(out / f".{GRID}.lock"):
        if not (out / GRID).exists():
            write_durably(out / GRID, (json.dumps(grid, indent=2) + "\n").encode())
        elif _read(out / GRID, out / GRID) != grid:
            raise UsageError(f"{out} holds the search of another grid or recipe; give another directory (--out)")
    journal = str(out / JOURNAL)
    direction = "minimize" if recipe.training.monitor == "loss" else "maximize"
    try:
        # A lock of its own making, since network file systems may have no other.
        storage = JournalStorage(JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal)))
        return optuna.create_study(storage=storage, study_name=recipe.name, direction=direction, load_if_exists=True)
    except (ValueError, LookupError, TypeError, AssertionError) as error:  # what Optuna trips over in a damaged line
        raise _damaged(out / JOURNAL, out / JOURNAL) from error


def _read(file: Path, part: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, part) from error


def _damaged(file: Path, part: Path) -> ModelError:
    return ModelError(f"{file} is damaged; remove {part} and search again: runs that have ended keep their records")


def _enqueue(study: optuna.Study, cells: list[Cell], out: Path) -> None:
    """Put every configuration in the queue that is neither there, nor ended, nor in the hands of a live machine."""
    waiting = [_values(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        cell = next((cell for cell in cells if cell.values == trial.params), None)
        if cell is None or not _held(out / cell.name):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    for cell in cells:
        if cell.values not in waiting and not ended(out / cell.name) and not _held(out / cell.name):
            study.enqueue_trial(dict(cell.values))


def _values(trial: Any) -> dict[str, str]:
    return trial.system_attrs.get("fixed_params", {})


def _lock(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")


def _held(folder: Path) -> bool:
    """Whether a live process is at work in the folder of a run."""
    try:
        with FileLock(_lock(folder), timeout=0):
            return False
    except Timeout:
        return True


def _run(
    name_or_path: str, overrides: Sequence[str], cell: Cell, data: Path, folder: Path, say: Callable[[str], None]
) -> None:
    """Train one configuration and write its record."""
    recipe = load_recipe(name_or_path, [*overrides, *cell.overrides])
    began = time.time()
    record: dict[str, Any] = {
        "run": folder.name,
        "changes": {key: json.loads(value) for key, value in cell.values.items()},
        "seed": recipe.training.seed,
        "figure": recipe.training.monitor,
        "lower_is_better": recipe.training.monitor == "loss",
        "value": None,
        "error": None,
    }
    try:
        if (folder / SPEC).exists():
            # It ended, and was killed before its record was written.
            metrics = _read(folder / "metrics.json", folder)
        else:
            metrics = fit(recipe, data, folder, resume=True).metrics
    except XrtError as error:
        say(f"run {cell.number} failed: {error}")
        record["error"] = str(error)
    else:
        record |= {"value": metrics["monitored"]["value"]}
        record |= {key: metrics[key] for key in ("best_epoch", "epochs", "validation", "test", "thresholds")}
        record["seconds"] = metrics["seconds"]["total"]
    record["ended_after_s"] = time.time() - began
    write_durably(folder / RECORD, (json.dumps(record, indent=2) + "\n").encode())
