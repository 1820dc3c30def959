"""What is watched during training: the history, the best weights so far, and the progress line."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

Row = dict[str, float | int | None]


class History(Callback):
    """One row an epoch: losses, mean validation AUROC, learning rate at the end, seconds."""

    def __init__(self) -> None:
        """Start with no rows."""
        self.rows: list[Row] = []
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the epoch's row. Validation has run by then."""
        logged = trainer.callback_metrics
        row: Row = {"epoch": trainer.current_epoch + 1}
        for name in ("train_loss", "val_loss", "val_auroc"):
            value = float(logged[name])
            row[name] = value if math.isfinite(value) else None
        row["lr"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = time.perf_counter() - self._started
        self.rows.append(row)


class KeepBest(Callback):
    """Keep a copy of the evaluated weights of the best epoch, and stop when `patience` epochs brought none.

    Better is a higher mean validation AUROC and, where that ties or is the recipe's wish, a lower validation
    loss. A validation part in which no class has both kinds of cases has no AUROC: then the loss alone
    decides.
    """

    def __init__(self, monitor: str, patience: int | None) -> None:
        """`monitor` is `auroc` or `loss`."""
        self.monitor = monitor
        self.patience = patience
        self.epoch = 0
        self.state: dict[str, Tensor] | None = None
        self._score = (-math.inf, -math.inf)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the epoch just validated."""
        loss, area = float(trainer.callback_metrics["val_loss"]), float(trainer.callback_metrics["val_auroc"])
        score = (area if self.monitor == "auroc" and math.isfinite(area) else 0.0, -loss)
        if self.state is None or score > self._score:
            self._score, self.epoch = score, trainer.current_epoch + 1
            evaluated: Any = pl_module.evaluated
            self.state = {name: tensor.detach().clone() for name, tensor in evaluated.state_dict().items()}
        elif self.patience is not None and trainer.current_epoch + 1 - self.epoch >= self.patience:
            trainer.should_stop = True


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
        self._task = self._bar.add_task("training", total=int(trainer.estimated_stepping_batches))
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
