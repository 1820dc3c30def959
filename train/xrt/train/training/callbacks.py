"""What is watched during training: the history, the best weights so far, and the progress."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from xrt.runtime._io import write_atomically
from xrt.runtime.errors import ModelError
from xrt.runtime.progress import Progress
from xrt.train.training.phases import Phases

_log = logging.getLogger("xrt.train")
Row = dict[str, float | int | None]
COLUMNS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_auroc",
    "val_accuracy",
    "val_recall",
    "val_precision",
    "val_f1",
)
"""What is logged of every epoch."""

# Lightning keeps the states of `History` and `KeepBest` in `resume.ckpt` under the names of these classes.


class History(Callback):
    """One row per epoch, also written to a CSV file: losses, validation figures, last learning rate, seconds."""

    def __init__(self, file: Path | None = None) -> None:
        """Start with no rows; the first process writes `file` again after every epoch."""
        self.rows: list[Row] = []
        self.file = file
        self._start = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row. Validation has run by then."""
        metrics = trainer.callback_metrics
        row: Row = {"epoch": trainer.current_epoch + 1}
        for name in COLUMNS:
            value = float(metrics[name])
            row[name] = value if math.isfinite(value) else None
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = time.perf_counter() - self._start
        self.rows.append(row)
        if self.file is not None and trainer.is_global_zero:
            lines = [list(row), *([row[key] for key in row] for row in self.rows)]
            text = "".join(",".join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines)
            write_atomically(self.file, text.encode())

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue them."""
        self.rows = state_dict["rows"]


class KeepBest(Callback):
    """Keep a copy of the evaluated weights of the best epoch; end a phase when it is over or no longer improves.

    Better is a higher monitored figure and, where that is equal, a lower validation loss. The loss alone decides where
    it is the monitored figure, and where that figure is not defined: a validation part in which no class has both kinds
    of cases has no AUROC. A validation loss that is not finite ends the run, and raises ModelError in its first epoch.
    """

    def __init__(self, monitor: str, patience: int | None) -> None:
        """`monitor` is `loss` or a figure of validation without its `val_`."""
        self.monitor = monitor
        self.patience = patience
        self.epoch = 0
        self.state: dict[str, Tensor] | None = None
        self._score = (-math.inf, -math.inf)

    @property
    def value(self) -> float:
        """The monitored figure of the best epoch."""
        figure, negated_loss = self._score
        return -negated_loss if self.monitor == "loss" else figure

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch just validated."""
        module: Any = pl_module
        epoch = trainer.current_epoch + 1
        loss = float(trainer.callback_metrics["val_loss"])
        if not math.isfinite(loss):
            self._end_diverged(trainer, epoch, loss)
            return
        value = float(trainer.callback_metrics[f"val_{self.monitor}"])
        defined = self.monitor != "loss" and math.isfinite(value)
        score = (value if defined else 0.0, -loss)
        if self.state is None or score > self._score:
            self._score, self.epoch = score, epoch
            self.state = {name: tensor.detach().clone() for name, tensor in module.evaluated.state_dict().items()}
        phases: Phases = module.phases
        epochs_without_gain = epoch - max(self.epoch, phases.first_epoch)
        impatient = self.patience is not None and epochs_without_gain >= self.patience
        if epoch - phases.first_epoch < phases.current.epochs and not impatient:
            return
        if not phases.advance(epoch, trainer.global_step):
            trainer.should_stop = True
            return
        # The rate of the next batch was set while the last phase was still the current one.
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        for group, base, factor in zip(
            trainer.optimizers[0].param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)

    def _end_diverged(self, trainer: Trainer, epoch: int, loss: float) -> None:
        """End a run whose weights are no longer finite: no further step can correct them."""
        reason = f"training diverged in epoch {epoch}: the validation loss is {loss}"
        if self.state is None:
            raise ModelError(
                f"{reason}. Lower the rate (optim.lr, or lr of training.phases), limit the gradients (optim.clip_norm),"
                " and see that the starting weights are finite"
            )
        _log.warning("%s; epoch %d is kept", reason, self.epoch)
        trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """The best so far."""
        return {"epoch": self.epoch, "state": self.state, "score": self._score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue comparing with it."""
        self.epoch, self.state, self._score = state_dict["epoch"], state_dict["state"], tuple(state_dict["score"])


class ReportProgress(Callback):
    """Count the batches of the run and, from the first epoch on, report the last validation AUROC."""

    def __init__(self, progress: Progress) -> None:
        """`progress` gets the count after every batch."""
        self.progress = progress
        self._what = "training"
        self._done = self._total = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the first batch, or at the one where the run continues."""
        self._done, self._total = trainer.global_step, int(trainer.estimated_stepping_batches)
        self._report()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one batch."""
        self._done += 1
        self._report()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation AUROC."""
        area = float(trainer.callback_metrics["val_auroc"])
        self._what = f"epoch {trainer.current_epoch + 1}, validation AUROC {area:.3f}"
        self._report()

    def _report(self) -> None:
        self.progress.count(self._done, self._total, self._what)
