"""Lightning's trainer as a recipe asks for it: devices, precision, logs, and a run that can be resumed."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from xrt.runtime.errors import MissingDependency, ModelError, UsageError
from xrt.runtime.progress import SILENT, Progress
from xrt.train.data.augmentation import build_augmentation
from xrt.train.data.dataset import AugmentedDataset, CaseDataset, loader, training_loader
from xrt.train.data.sampling import EpochSampler, balancing_weights
from xrt.train.recipes.spec import Recipe, TrainingSpec
from xrt.train.training.callbacks import History, KeepBest, ReportProgress
from xrt.train.training.module import Classifier
from xrt.train.training.process_state import log_levels
from xrt.train.training.run_folder import HISTORY, RESUME, RunFolder, SaveState, position

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def train(
    module: Classifier,
    datasets: dict[str, CaseDataset],
    folder: RunFolder,
    state: dict[str, Any] | None,
    progress: Progress = SILENT,
) -> tuple[History, KeepBest]:
    """Train `module` as its recipe says, from the beginning or from `state`; it gets the best epoch's weights.

    Raises UsageError for what the machine or the model does not have, ModelError when stopped from outside.
    """
    recipe, spec = module.recipe, module.recipe.training
    history, best = History(folder.path / HISTORY), KeepBest(spec.monitor, spec.patience)
    callbacks = [history, best, SaveState(folder, spec.checkpoint_steps), ReportProgress(progress)]
    size = recipe.preprocessing.height, recipe.preprocessing.width
    cases = datasets["train"]
    epoch, batches = position(state)
    sampler = EpochSampler(
        len(cases),
        seed=spec.seed,
        weights=balancing_weights(cases.targets) if spec.sampling == "balanced" else None,
        start=(epoch, batches * spec.batch_size),
    )
    augmented = AugmentedDataset(cases, build_augmentation(recipe.augmentation, *size), spec.seed)
    try:
        with _quiet_lightning():
            _trainer(recipe, folder, callbacks, module.phases.epochs).fit(
                module,
                training_loader(augmented, sampler, spec.batch_size, workers=spec.workers),
                loader(datasets["val"], spec.batch_size, workers=spec.workers),
                ckpt_path=folder.path / RESUME if state is not None else None,
                weights_only=True,
            )
    except SystemExit as error:
        # Lightning turns Ctrl-C and SIGTERM into SystemExit, the latter with exit code 0: an unfinished run would
        # look like a finished one.
        raise ModelError(
            f"training was stopped from outside in epoch {len(history.rows) + 1} of {module.phases.epochs};"
            f" --resume continues it from {_last_position(folder)}"
        ) from error
    if best.state is None:
        raise ModelError(f"training ended without a validated epoch; remove {folder.path} and start the run again")
    module.evaluated.load_state_dict(best.state)
    return history, best


def _trainer(recipe: Recipe, folder: RunFolder, callbacks: list[Any], epochs: int) -> lightning.Trainer:
    spec = recipe.training
    if spec.precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("training.precision fp16 needs a GPU; on a CPU use bf16 or fp32")
    if isinstance(spec.devices, int) and spec.devices > (available := torch.cuda.device_count() or os.cpu_count() or 1):
        raise UsageError(f"training.devices is {spec.devices}; this machine has {available}")
    if spec.tensorboard and find_spec("tensorboard") is None:
        raise MissingDependency(
            "training.tensorboard needs tensorboard, which is not installed: pip install tensorboard"
        )
    try:
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="auto",
            devices=spec.devices,
            strategy=_strategy(spec),
            precision=_PRECISION[spec.precision],  # type: ignore[arg-type]
            gradient_clip_val=recipe.optim.clip_norm,
            callbacks=callbacks,
            num_sanity_val_steps=0,
            logger=TensorBoardLogger(folder.path, name="tensorboard", version="") if spec.tensorboard else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            # The sampler itself divides an epoch among several processes.
            use_distributed_sampler=False,
        )
    except (ValueError, MisconfigurationException) as error:
        raise UsageError(f"training.devices or training.strategy does not fit this machine: {error}") from error


def _strategy(spec: TrainingSpec) -> str:
    """Lightning's strategy; where phases freeze parts of the model, one that does not wait for their gradients."""
    return "ddp_find_unused_parameters_true" if spec.strategy == "ddp" and spec.phases else spec.strategy


def _last_position(folder: RunFolder) -> str:
    file = folder.path / RESUME
    if not file.exists():
        return "its beginning"
    epoch, batches = position(torch.load(file, map_location="cpu", weights_only=True))
    return f"batch {batches} of epoch {epoch + 1}"


def first_process() -> bool:
    """Whether this is the first, or only, process of a training; the others write and print nothing."""
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints about hardware, workers and short epochs off the terminal."""
    with log_levels(logging.ERROR, "lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        yield
