"""`search_grid`: every configuration of a recipe's grid, one after another, on as many machines as share the folder.

Optuna keeps the trials in a journal file, which may lie on a network file system: each machine asks it for the next
configuration, and a lock on the run's folder shows whether the machine that took one is still working on it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import TrialState

from xrt.runtime._io import json_bytes, require_writable, write_atomically
from xrt.runtime.errors import ModelError, UsageError, XrtError
from xrt.runtime.progress import SILENT, Progress
from xrt.train.checkpoint import SPEC
from xrt.train.search.grid import RECORD, Cell, Grid, has_succeeded, ranking, record_of
from xrt.train.training.fit import fit

JOURNAL, GRID = "journal.log", "grid.json"


class _Counts(Progress):
    """The counts of a run alone: the summary of its data is the same for every run."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def count(self, done: int, total: int | None, what: str) -> None:
        self._progress.count(done, total, what)


def search_grid(
    grid: Grid, data: str | Path, out: str | Path, *, limit: int | None = None, progress: Progress = SILENT
) -> list[dict[str, Any]]:
    """Train every configuration that has no record yet, at most `limit` of them, each from a fresh start.

    Each run is a folder of `out` with its own `record.json`, written as the run ends; an interrupted one is resumed.
    A configuration that cannot be trained is recorded with the reason, the next one follows, and another search tries
    it again. Returns all records, the best on validation first. Raises UsageError if `out` holds another grid,
    ModelError if its files are damaged.
    """
    out = Path(out)
    with _quiet_optuna():
        study = _study(grid, out)
        cells = {json.dumps(cell.values, sort_keys=True): cell for cell in grid.cells}
        space: dict[str, BaseDistribution] = {
            key: CategoricalDistribution(sorted({cell.values[key] for cell in grid.cells}))
            for key in grid.recipe.search
        }
        _enqueue(study, grid, out)
        done = 0
        while (limit is None or done < limit) and study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            trial = study.ask(space)
            cell = cells[json.dumps(trial.params, sort_keys=True)]
            folder = out / cell.name
            try:
                with FileLock(_lock(folder), timeout=0):
                    if not has_succeeded(folder):
                        progress.step(f"run {cell.number} of {len(grid.cells)}: {', '.join(cell.overrides)}")
                        _train(cell, Path(data), folder, progress)
                        done += 1
                    record = record_of(folder)
            except Timeout:
                # Another machine is working on it.
                study.tell(trial, state=TrialState.FAIL)
                continue
            if record is None or record["value"] is None:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, record["value"])
    return ranking(out, grid.cells)


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna's line per trial off the terminal."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _study(grid: Grid, out: Path) -> optuna.Study:
    require_writable(out, out)
    out.mkdir(parents=True, exist_ok=True)
    recipe = grid.recipe
    content = {"recipe": recipe.model_dump(mode="json"), "runs": {cell.name: cell.values for cell in grid.cells}}
    with FileLock(out / f".{GRID}.lock"):
        if not (out / GRID).exists():
            write_atomically(out / GRID, json_bytes(content))
        elif _read(out / GRID, out / GRID) != content:
            raise UsageError(f"{out} holds the search of another grid or recipe; give another directory (--out)")
    journal = str(out / JOURNAL)
    direction = "minimize" if recipe.training.monitor == "loss" else "maximize"
    try:
        # A lock that is a file, since network file systems may have no other.
        storage = JournalStorage(JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal)))
        return optuna.create_study(storage=storage, study_name=recipe.name, direction=direction, load_if_exists=True)
    except (ValueError, LookupError, TypeError, AssertionError) as error:  # what Optuna raises for a damaged line
        raise _damage(out / JOURNAL, out / JOURNAL) from error


def _read(file: Path, remedy: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damage(file, remedy) from error


def _damage(file: Path, remedy: Path) -> ModelError:
    return ModelError(f"{file} is damaged; remove {remedy} and search again: runs that have ended keep their records")


def _enqueue(study: optuna.Study, grid: Grid, out: Path) -> None:
    """Put every configuration in the queue that is neither there, nor ended, nor being trained by a live process."""
    queue = [_values(trial) for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,))]
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        cell = next((cell for cell in grid.cells if cell.values == trial.params), None)
        if cell is None or not _is_locked(out / cell.name):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    for cell in grid.cells:
        if cell.values not in queue and not has_succeeded(out / cell.name) and not _is_locked(out / cell.name):
            study.enqueue_trial(dict(cell.values))


def _values(trial: Any) -> dict[str, str]:
    return trial.system_attrs.get("fixed_params", {})


def _lock(folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder.with_name(f".{folder.name}.lock")


def _is_locked(folder: Path) -> bool:
    """Whether a live process is working in the folder of a run."""
    try:
        with FileLock(_lock(folder), timeout=0):
            return False
    except Timeout:
        return True


def _train(cell: Cell, data: Path, folder: Path, progress: Progress) -> None:
    """Train one configuration and write its record."""
    training = cell.recipe.training
    start = time.time()
    record: dict[str, Any] = {
        "run": folder.name,
        "changes": {key: json.loads(value) for key, value in cell.values.items()},
        "seed": training.seed,
        "figure": training.monitor,
        "lower_is_better": training.monitor == "loss",
        "value": None,
        "error": None,
    }
    try:
        if (folder / SPEC).exists():
            # It ended, and was killed before its record was written.
            metrics = _read(folder / "metrics.json", folder)
        else:
            metrics = fit(cell.recipe, data, folder, resume=True, progress=_Counts(progress)).metrics
    except XrtError as error:
        progress.note(f"run {cell.number} failed: {error}")
        record["error"] = str(error)
    else:
        record |= {"value": metrics["monitored"]["value"]}
        record |= {key: metrics[key] for key in ("best_epoch", "epochs", "validation", "test", "thresholds")}
        record["seconds"] = metrics["seconds"]["total"]
    record["ended_after_s"] = time.time() - start
    write_atomically(folder / RECORD, json_bytes(record))
