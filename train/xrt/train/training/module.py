"""The Lightning module: what is trained on a batch, and what is measured after an epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from xrt.runtime.bundle.manifest import Task
from xrt.train.data.augmentation import mixed_seed
from xrt.train.data.dataset import Batch, normalise
from xrt.train.models import Normalisation, head_path
from xrt.train.recipes.spec import Recipe
from xrt.train.training.losses import Loss, smooth
from xrt.train.training.metrics import (
    accuracy_of,
    findings_at,
    monitored_figures,
    probabilities,
    training_thresholds,
)
from xrt.train.training.optimisers import build_optimiser, build_schedule
from xrt.train.training.phases import Phases


class Classifier(lightning.LightningModule):
    """A model under training. Batches are uint8 images [n, 1, H, W] and targets float32 [n, logits].

    `evaluated` is what validation measures and the checkpoint keeps: the averaged weights if the recipe asks for them.
    `monitored` are the columns of the logits whose figures compare epochs.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        normalisation: Normalisation,
        task: Task,
        loss: Loss,
        monitored: list[int],
    ) -> None:
        """`model` is trained in place."""
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.normalisation = normalisation
        self.task: Task = task
        self.loss = loss
        self.monitored = monitored
        self.phases = Phases(recipe)
        self.average = _average(model, recipe.training.ema) if recipe.training.ema else None
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._epoch = _EpochSums()

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.average.module if self.average is not None else self.model

    def forward(self, images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, "n logits"]:
        """Logits of the evaluated model for unchanged images."""
        return self.evaluated(self._input(images))

    def on_train_start(self) -> None:
        """Apply the current phase, also in the middle of an epoch."""
        self.phases.apply(self.model)

    def on_train_epoch_start(self) -> None:
        """Apply the phase that may begin here."""
        self.phases.apply(self.model)
        self._epoch = _EpochSums()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed dropout by the position in the run, so that an interrupted run can be resumed."""
        torch.manual_seed(mixed_seed(self.recipe.training.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The loss of one batch."""
        images, targets = batch
        smooth_targets = smooth(targets, self.recipe.loss.label_smoothing, self.task)
        logits = self.model(self._input(images)).float()
        loss = self.loss(logits, smooth_targets)
        thresholds = training_thresholds(self.task, targets.shape[1])
        findings = findings_at(probabilities(logits.detach(), self.task), thresholds)
        self._epoch.add(loss.detach(), accuracy_of(findings, targets.bool(), self.task))
        return loss

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Make the step and move the averaged weights, before any callback sees the batch as done."""
        super().optimizer_step(*arguments, **options)
        if self.average is not None:
            self.average.update_parameters(self.model)

    def on_validation_epoch_start(self) -> None:
        """Log the means over the epoch's batches. Validation comes first, then the callbacks."""
        self.log("train_loss", self._epoch.mean(self._epoch.loss))
        self.log("train_accuracy", self._epoch.mean(self._epoch.accuracy))

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Collect logits; AUROC needs all of them at once."""
        images, targets = batch
        self._logits.append(self(images).float())
        self._targets.append(targets)

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` and the figures of `monitored`; what is not defined is NaN."""
        logits, targets = torch.cat(self._logits), torch.cat(self._targets)
        self._logits, self._targets = [], []
        self.log("val_loss", float(self.loss(logits, targets)))
        probability = probabilities(logits.cpu(), self.task)
        for name, value in monitored_figures(probability, targets.cpu(), self.task, self.monitored).items():
            self.log(f"val_{name}", math.nan if value is None else value)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, stepped every batch."""
        optimiser = build_optimiser(self.model, head_path(self.recipe.model), self.recipe.optim)
        steps_per_epoch = math.ceil(int(self.trainer.estimated_stepping_batches) / self.phases.epochs)
        schedule = build_schedule(optimiser, self.recipe.optim, self.phases, steps_per_epoch)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the state dict does not have: the phase, and the sums of the epoch so far."""
        checkpoint["phases"] = self.phases.state_dict()
        checkpoint["epoch_sums"] = (float(self._epoch.loss), float(self._epoch.accuracy), self._epoch.batches)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore them."""
        self.phases.load_state_dict(checkpoint["phases"])
        self._epoch = _EpochSums(*checkpoint["epoch_sums"])

    def _input(self, images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h w"]:
        inputs = normalise(images, self.normalisation)
        return inputs.to(memory_format=torch.channels_last) if self.recipe.training.channels_last else inputs


@dataclass
class _EpochSums:
    """Sums over the training batches of an epoch, kept on the device so that a batch need not wait for them."""

    loss: Tensor | float = 0.0
    accuracy: Tensor | float = 0.0
    batches: int = 0

    def add(self, loss: Tensor, accuracy: Tensor) -> None:
        self.loss = self.loss + loss.double()
        self.accuracy = self.accuracy + accuracy
        self.batches += 1

    def mean(self, total: Tensor | float) -> float:
        return float(total) / max(1, self.batches)


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of weights and batch norm statistics."""

    def blend(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        # A short memory at first, so that the random start soon has no weight.
        weight = min(decay, (1 + float(count)) / (10 + float(count)))
        return average.lerp(current, 1 - weight)

    average = AveragedModel(model, avg_fn=blend, use_buffers=True)
    # No gradients: several processes would wait for them.
    average.requires_grad_(False)
    return average
