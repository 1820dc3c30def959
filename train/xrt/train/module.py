"""The Lightning module: what is trained on a batch, and what is measured after an epoch."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from xrt.runtime.bundle.manifest import Task
from xrt.train.augmentation import augment
from xrt.train.data import Batch, standardise
from xrt.train.metrics import auroc_by_class, mean_auroc, probabilities
from xrt.train.models import ARCHITECTURES, Normalisation
from xrt.train.optimisers import build_optimiser, build_schedule
from xrt.train.recipe import Recipe


class Classifier(lightning.LightningModule):
    """A model under training. Batches are uint8 images [n, 1, H, W] and targets float32 [n, logits].

    `evaluated` is what validation measures and the checkpoint keeps: the averaged weights if the recipe asks
    for them.
    """

    def __init__(self, model: nn.Module, recipe: Recipe, normalisation: Normalisation, task: Task) -> None:
        """`model` is trained in place."""
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.normalisation = normalisation
        self.task: Task = task
        self.average = _average(model, recipe.training.ema) if recipe.training.ema else None
        self._logits: list[Tensor] = []
        self._targets: list[Tensor] = []

    @property
    def evaluated(self) -> nn.Module:
        """The model whose figures count."""
        return self.average.module if self.average is not None else self.model

    def forward(self, images: UInt8[Tensor, "n 1 h w"]) -> Float[Tensor, "n logits"]:
        """Logits of the evaluated model for unchanged images."""
        return self.evaluated(self._input(images.float() / 255))

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The loss of one augmented batch."""
        images, targets = batch
        images = augment(images.float() / 255, self.recipe.augmentation)
        loss = self._loss(self.model(self._input(images)).float(), targets, self.recipe.loss.label_smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(targets))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the averaged weights."""
        if self.average is not None:
            self.average.update_parameters(self.model)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Collect logits; AUROC needs all of them at once."""
        images, targets = batch
        self._logits.append(self(images).float())
        self._targets.append(targets)

    def on_validation_epoch_end(self) -> None:
        """Log `val_loss` and `val_auroc`, the mean over the classes that have both kinds of cases."""
        logits, targets = torch.cat(self._logits), torch.cat(self._targets)
        self._logits, self._targets = [], []
        self.log("val_loss", self._loss(logits, targets, 0.0))
        area = mean_auroc(auroc_by_class(probabilities(logits, self.task), targets))
        self.log("val_auroc", float("nan") if area is None else area)

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, stepped every batch."""
        head = ARCHITECTURES[self.recipe.model.architecture].head
        optimiser = build_optimiser(self.model, head, self.recipe.optim)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = build_schedule(optimiser, self.recipe.optim, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _input(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n c h w"]:
        images = standardise(images, self.normalisation)
        return images.to(memory_format=torch.channels_last) if self.recipe.training.channels_last else images

    def _loss(self, logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
        if self.task == "multiclass":
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        return F.binary_cross_entropy_with_logits(logits, targets * (1 - smoothing) + smoothing / 2)


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """A running average of weights and batch norm statistics."""

    def blend(average: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        if not average.is_floating_point():
            return current
        # It follows closely at first, so that it does not remember the random start.
        followed = min(decay, (1 + float(count)) / (10 + float(count)))
        return average.lerp(current, 1 - followed)

    return AveragedModel(model, avg_fn=blend, use_buffers=True)
