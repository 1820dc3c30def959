"""The folder of a run while it is trained: its settings, and where to continue after a kill.

run.json      recipe, number of threads, and a hash of the cases, their parts and images: written first
split.csv     the part of every case: train, val or test
metrics.csv   one row per epoch, as epochs end
resume.ckpt   weights, optimiser and position in the run, every so many batches; removed once the run is finished
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from xrt.runtime._io import json_bytes, move_into_place, require_writable, sha256_of, write_atomically
from xrt.runtime.datasets.table import Splits
from xrt.runtime.errors import ModelError, UsageError
from xrt.train.checkpoint import SPEC, WEIGHTS
from xrt.train.recipes.spec import Recipe
from xrt.train.training.reports import FILES as REPORTS

SETTINGS, SPLIT, RESUME, HISTORY = "run.json", "split.csv", "resume.ckpt", "metrics.csv"
_WRITTEN = (SPLIT, HISTORY, *REPORTS, WEIGHTS)


class RunFolder:
    """The folder of one run. Only the first of several processes writes."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """`path` need not exist."""
        self.path = path
        self.writes = writes

    def require_free(self, *, resume: bool) -> None:
        """Raise UsageError unless a run can begin here, or, with `resume`, continue.

        It cannot in a folder that holds a finished run, an unfinished one without `resume`, or files that belong to no
        run and would be overwritten.
        """
        if not self.writes:
            # The first process has checked and written already.
            return
        require_writable(self.path, self.path)
        if (self.path / SPEC).exists():
            raise UsageError(f"{self.path} holds a finished run; give another directory (--out) or remove it")
        # Before the first state is saved there is nothing to lose, so a start that failed does not prevent another.
        if (self.path / RESUME).exists():
            if not resume:
                raise UsageError(
                    f"{self.path} holds an unfinished run; --resume continues it, or give another directory (--out)"
                )
        elif not (self.path / SETTINGS).exists() and (others := [f for f in _WRITTEN if (self.path / f).exists()]):
            raise UsageError(f"{self.path} holds a {others[0]} that belongs to no run; give another directory (--out)")

    def begin(self, recipe: Recipe, splits: Splits, digests: Sequence[bytes], threads: int) -> dict[str, Any] | None:
        """Record the settings of the run; returns the state to continue from, or None to start from scratch.

        `digests` are those of all inputs. Raises UsageError if an unfinished run had other settings or images, and
        ModelError if its state cannot be read.
        """
        if not self.writes:
            return self._state()
        table = _table(splits)
        settings = {
            "recipe": recipe.model_dump(mode="json"),
            "threads": threads,
            "cases_sha256": sha256_of(b"".join((table, *digests))),
        }
        state = self._state()
        if state is not None:
            self._require_same(settings)
        write_atomically(self.path / SPLIT, table)
        write_atomically(self.path / SETTINGS, json_bytes(settings))
        return state

    def finish(self) -> None:
        """Remove what only an unfinished run needs."""
        if self.writes:
            (self.path / RESUME).unlink(missing_ok=True)

    def _require_same(self, settings: dict[str, Any]) -> None:
        file = self.path / SETTINGS
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
            before["recipe"] = _with_defaults(before["recipe"])
            changes = [key for key in settings if before[key] != settings[key]]
            old, new = (_flat(each["recipe"]) for each in (before, settings))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{file} is damaged; remove {self.path} and start the run again") from error
        if "recipe" in changes:
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            raise UsageError(
                f"{self.path} was begun with {keys[0]} = {old.get(keys[0])!r}, now it is {new.get(keys[0])!r}"
                + (f" ({len(keys)} keys differ)" if len(keys) > 1 else "")
                + "; continue with the same recipe, or give another directory (--out)"
            )
        if "threads" in changes:
            raise UsageError(
                f"{self.path} was begun with {before['threads']} threads, now there are {settings['threads']}, which"
                f" would give other numbers; continue with --set training.threads={before['threads']} from the start,"
                f" or with OMP_NUM_THREADS={before['threads']}"
            )
        if changes:
            raise UsageError(
                f"{self.path} was begun on other cases or images than the data set has now; restore the data set, or"
                " give another directory (--out)"
            )

    def _state(self) -> dict[str, Any] | None:
        file = self.path / RESUME
        if not file.exists():
            return None
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            position(state)
        except Exception as error:  # a damaged file makes zip, pickle and torch raise many kinds of errors
            raise ModelError(
                f"{file} cannot be read, it is truncated or damaged; remove it, and --resume starts the run again from"
                " its beginning"
            ) from error
        return state


class SaveState(Callback):
    """Write the state of the run into its folder every so many batches, never at the last batch of an epoch.

    In the middle of an epoch a state is complete: no validation is in progress.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        """`every` is in batches."""
        self.folder = folder
        self.every = every
        self._batches = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time."""
        self._batches += 1
        if self._batches < self.every or batch_idx + 1 >= trainer.num_training_batches:
            return
        self._batches = 0
        file = self.folder.path / RESUME
        scratch = file.with_suffix(".part")
        trainer.save_checkpoint(scratch)
        if self.folder.writes:
            move_into_place(scratch, file)


def position(state: dict[str, Any] | None) -> tuple[int, int]:
    """The epoch and the number of its batches that are done, both from 0."""
    if state is None:
        return 0, 0
    fit = state["loops"]["fit_loop"]
    return fit["epoch_progress"]["current"]["processed"], fit["epoch_loop.batch_progress"]["current"]["ready"]


def _with_defaults(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe with the keys that came later, at the values that earlier runs mean."""
    try:
        return Recipe.model_validate(recipe).model_dump(mode="json")
    except ValueError:  # of no recipe that is valid today: it differs from any that is
        return recipe


def _table(splits: Splits) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["key", "part", "labels"])
    for name, table in splits.named().items():
        writer.writerows([case.key, name, "|".join(case.labels)] for case in table.cases)
    return text.getvalue().encode()


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
