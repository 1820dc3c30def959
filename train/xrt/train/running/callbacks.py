"""What is watched during training: the history, the best weights so far, and the progress line."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from xrt.runtime.errors import ModelError
from xrt.runtime.files import write_durably
from xrt.train.learning.phases import Phases

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


class History(Callback):
    """One row an epoch, also written to a CSV file: losses, validation figures, learning rate at the end, seconds."""

    def __init__(self, file: Path | None = None) -> None:
        """Start with no rows; `file` is written anew after every epoch, by the first process."""
        self.rows: list[Row] = []
        self.file = file
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row. Validation has run by then."""
        logged = trainer.callback_metrics
        row: Row = {"epoch": trainer.current_epoch + 1}
        for name in COLUMNS:
            value = float(logged[name])
            row[name] = value if math.isfinite(value) else None
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = time.perf_counter() - self._started
        self.rows.append(row)
        if self.file is not None and trainer.is_global_zero:
            lines = [list(row), *([row[key] for key in row] for row in self.rows)]
            text = "".join(",".join("" if cell is None else str(cell) for cell in line) + "\n" for line in lines)
            write_durably(self.file, text.encode())

    def state_dict(self) -> dict[str, Any]:
        """The rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue them."""
        self.rows = state_dict["rows"]


class KeepBest(Callback):
    """Keep a copy of the evaluated weights of the best epoch; end a phase when it is over or no longer gets better.

    Better is a higher monitored figure and, where that ties, a lower validation loss, which alone decides where it is
    the figure. So it does where the figure is not defined: a validation part in which no class has both kinds of cases
    has no AUROC. A validation loss that is not finite ends the run, and raises ModelError in its first epoch.
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
        known = self.monitor != "loss" and math.isfinite(value)
        score = (value if known else 0.0, -loss)
        if self.state is None or score > self._score:
            self._score, self.epoch = score, epoch
            self.state = {name: tensor.detach().clone() for name, tensor in module.evaluated.state_dict().items()}
        phases: Phases = module.phases
        waited = epoch - max(self.epoch, phases.first_epoch)
        if epoch - phases.first_epoch < phases.now.epochs and (self.patience is None or waited < self.patience):
            return
        if not phases.advance(epoch, trainer.global_step):
            trainer.should_stop = True
            return
        # The rate of the next batch was set when the last phase had still the say.
        schedule: Any = trainer.lr_scheduler_configs[0].scheduler
        for group, base, factor in zip(
            trainer.optimizers[0].param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True
        ):
            group["lr"] = base * factor(schedule.last_epoch)

    def _end_diverged(self, trainer: Trainer, epoch: int, loss: float) -> None:
        """End a run whose weights are not finite any more: no step mends them."""
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
        """Go on comparing with it."""
        self.epoch, self.state, self._score = state_dict["epoch"], state_dict["state"], tuple(state_dict["score"])


class ProgressLine(Callback):
    """A bar over all batches of the run, on standard error."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar."""
        total = int(trainer.estimated_stepping_batches)
        self._task = self._bar.add_task("training", total=total, completed=trainer.global_step)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance by one batch."""
        self._bar.advance(self._task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last validation AUROC."""
        area = float(trainer.callback_metrics["val_auroc"])
        self._bar.update(self._task, description=f"epoch {trainer.current_epoch + 1}, validation AUROC {area:.3f}")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the bar."""
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the bar before the error is shown."""
        self._bar.stop()
