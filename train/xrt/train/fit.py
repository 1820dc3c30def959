"""`fit`: from a recipe and a data set to a checkpoint with thresholds and figures."""

from __future__ import annotations

import logging
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from xrt.runtime.bundle.manifest import ClassSpec
from xrt.runtime.cases import CaseTable, open_cases
from xrt.runtime.errors import ModelError, UsageError
from xrt.runtime.operating import youden_threshold
from xrt.train.callbacks import History, KeepBest, ProgressLine
from xrt.train.checkpoint import SPEC, CheckpointSpec, save_checkpoint
from xrt.train.data import CaseDataset, fits_in_memory, loader, measure
from xrt.train.metrics import figures, probabilities
from xrt.train.models import build_model, start_at_prevalence
from xrt.train.module import Classifier
from xrt.train.recipe import Recipe
from xrt.train.reports import write_reports

_log = logging.getLogger("xrt.train")
_PACKAGES = (
    "xrt-train",
    "xrt-runtime",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "numpy",
    "pillow",
)


@dataclass(frozen=True)
class Run:
    """A finished run: its directory, what `model.json` says, and the content of `metrics.json`."""

    directory: Path
    spec: CheckpointSpec
    metrics: dict[str, Any]


def fit(recipe: Recipe, data: str | Path, out: str | Path, *, progress: bool | None = None) -> Run:
    """Train as `recipe` says on the data set at `data` and write the run into the directory `out`.

    The weights of the epoch that is best on validation are kept, thresholds are chosen on validation alone,
    and the test part is read once, at the end; both with fp32 arithmetic, as the exported graph has. On a CPU
    the result depends only on recipe, data, library versions and the number of threads. `progress` None shows
    a bar if standard error is a terminal.

    Raises UsageError if `out` holds a finished run, DataError if the data does not fit, ModelError if the
    model or its starting weights do not.
    """
    out = Path(out)
    if (out / SPEC).exists():
        raise UsageError(f"{out} holds a finished run; give another directory (--out) or remove it")
    began = time.perf_counter()
    cases = open_cases(
        data,
        classes=recipe.data.classes,
        ignore=recipe.data.ignore_labels,
        allow_missing=recipe.data.allow_missing,
    )
    with _quiet_lightning(), _threads(recipe.training.threads):
        lightning.seed_everything(recipe.training.seed, workers=True, verbose=False)
        datasets = _datasets(cases, recipe)
        _warn_of_absent_classes(datasets["train"].table)
        measured, statistics = measure(datasets["train"], recipe.model.channels)
        normalisation = measured if recipe.normalisation == "data" else recipe.normalisation
        model = build_model(recipe.model, len(cases.logit_classes))
        if cases.task != "multiclass":
            start_at_prevalence(model, recipe.model, datasets["train"].targets)
        if recipe.training.channels_last:
            model = model.to(memory_format=torch.channels_last)
        module = Classifier(model, recipe, normalisation, cases.task)
        out.mkdir(parents=True, exist_ok=True)
        loaded = time.perf_counter()
        show = sys.stderr.isatty() if progress is None else progress
        history, best = _train(module, datasets, recipe, show)
        trained = time.perf_counter()
        probability, targets = _predict(module, datasets["val"], recipe)
        classes = _classes_with_thresholds(cases, probability, targets)
        thresholds = _thresholds(cases, classes)
        validation = figures(probability, targets, cases.logit_classes, thresholds)
        test = figures(*_predict(module, datasets["test"], recipe), cases.logit_classes, thresholds)
    metrics: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "dataset": cases.summary(),
        "split": {name: dataset.table.summary() for name, dataset in datasets.items()},
        "device": str(module.device),
        "threads": recipe.training.threads or torch.get_num_threads(),
        "epochs": len(history.rows),
        "best_epoch": best.epoch,
        "seconds": {
            "data": loaded - began,
            "training": trained - loaded,
            "total": time.perf_counter() - began,
        },
        "thresholds": {c.name: c.threshold for c in classes},
        "validation": validation,
        "test": test,
    }
    spec = CheckpointSpec(
        model=recipe.model,
        task=cases.task,
        classes=classes,
        explained_class=recipe.explained_class if cases.task == "binary" else None,
        preprocessing=recipe.preprocessing,
        normalisation=normalisation,
        input_statistics=statistics,
        dataset=cases.name,
        recipe=recipe.name,
        seed=recipe.training.seed,
        metrics={"validation": validation, "test": test},
        versions=_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_reports(out, metrics, history.rows)
    return Run(out, save_checkpoint(out, module.evaluated, spec), metrics)


def _datasets(cases: CaseTable, recipe: Recipe) -> dict[str, CaseDataset]:
    cached = fits_in_memory(len(cases), recipe.preprocessing, recipe.data.cache_mib)
    splits = cases.split(recipe.data.proportions, seed=recipe.data.split_seed, official=recipe.data.official)
    return {
        name: CaseDataset(table, recipe.preprocessing, cached=cached)
        for name, table in (("train", splits.train), ("val", splits.val), ("test", splits.test))
    }


def _train(
    module: Classifier, datasets: dict[str, CaseDataset], recipe: Recipe, progress: bool
) -> tuple[History, KeepBest]:
    training = recipe.training
    history, best = History(), KeepBest(training.monitor, training.patience)
    trainer = lightning.Trainer(
        max_epochs=training.epochs,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed" if training.precision == "bf16" else "32-true",
        gradient_clip_val=recipe.optim.clip_norm,
        callbacks=[history, best, *([ProgressLine()] if progress else [])],
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.fit(
            module,
            loader(datasets["train"], training.batch_size, workers=training.workers, seed=training.seed, shuffle=True),
            loader(datasets["val"], training.batch_size, workers=training.workers),
        )
    except SystemExit as error:
        # Lightning turns Ctrl-C and SIGTERM into SystemExit, the latter with exit code 0: an unfinished run would
        # look like a finished one.
        raise ModelError(
            f"training was stopped from outside in epoch {len(history.rows) + 1} of {training.epochs}; nothing was"
            " written, start it again"
        ) from error
    assert best.state is not None
    module.evaluated.load_state_dict(best.state)
    return history, best


@torch.inference_mode()
def _predict(module: Classifier, dataset: CaseDataset, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Probabilities in float64 and targets, [n, logits] each, of a whole part."""
    module.eval()
    batches = loader(dataset, recipe.training.batch_size, workers=recipe.training.workers)
    pairs = [(module(images.to(module.device)).float().cpu(), targets) for images, targets in batches]
    logits, targets = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    return probabilities(logits, module.task), targets


def _classes_with_thresholds(cases: CaseTable, probability: Tensor, targets: Tensor) -> tuple[ClassSpec, ...]:
    """Classes with the operating thresholds that validation gives; 0.5, with a warning, where it gives none."""
    if cases.task == "multiclass":
        return tuple(ClassSpec(name=name, threshold=None) for name in cases.classes)
    chosen: dict[str, float] = {}
    for column, name in enumerate(cases.logit_classes):
        threshold = youden_threshold(probability[:, column].numpy(), targets[:, column].numpy())
        if threshold is None:
            _log.warning("%s: the validation part gives no operating threshold; 0.5 is used", name)
        else:
            chosen[name] = threshold
    # The first class of a binary model has no logit; its entry keeps the default and decides nothing.
    return tuple(ClassSpec(name=name, threshold=chosen.get(name, 0.5)) for name in cases.classes)


def _thresholds(cases: CaseTable, classes: tuple[ClassSpec, ...]) -> tuple[float, ...] | None:
    """The operating threshold of every logit; None for a multiclass task, which decides by argmax."""
    if cases.task == "multiclass":
        return None
    spoken_for = classes[1:] if cases.task == "binary" else classes
    return tuple(c.threshold for c in spoken_for if c.threshold is not None)


def _warn_of_absent_classes(table: CaseTable) -> None:
    positives = table.labels.sum(axis=0)
    for name, count in zip(table.logit_classes, positives, strict=True):
        if count in (0, len(table)):
            _log.warning("%s: %d of %d training images have it, so it cannot be learned", name, count, len(table))


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's hints about hardware, workers and short epochs off the terminal."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        logger.setLevel(level)
