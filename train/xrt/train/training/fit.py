"""`fit`: from a recipe and a data set to a checkpoint with thresholds and figures."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from xrt.runtime._io import first_line, utc_now
from xrt.runtime.datasets import CaseTable, describe, open_dataset
from xrt.runtime.datasets.table import Splits
from xrt.runtime.errors import DataError, ModelError, UsageError
from xrt.runtime.progress import SILENT, Progress
from xrt.train.checkpoint import CheckpointSpec, save_checkpoint
from xrt.train.data.dataset import CaseDataset, count_copies, loader, measure, warn_about_absent_classes
from xrt.train.models import Normalisation, build_model, start_at_prevalence
from xrt.train.recipes.spec import Recipe
from xrt.train.training.losses import build_loss
from xrt.train.training.metrics import figures, probabilities
from xrt.train.training.module import Classifier
from xrt.train.training.parts import read_parts
from xrt.train.training.process_state import isolated_seeds, thread_count
from xrt.train.training.reports import write_reports
from xrt.train.training.run_folder import RunFolder
from xrt.train.training.thresholds import classes_with_thresholds, thresholds_of
from xrt.train.training.trainer import first_process, train

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


def fit(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Train as `recipe` says on the data set at `data` and write the run into the directory `out`.

    The weights of the epoch that is best on validation are kept, thresholds are chosen on validation alone,
    and the test part is scored once, at the end; both with fp32 arithmetic, as the exported graph has. On a CPU the
    result depends only on recipe, data, library versions and the number of threads, also when the run was killed and
    resumed (`resume`). `progress` gets a summary of the data, in several lines, as a step; then counts of the images
    read and of the batches trained, these with the last validation AUROC.

    Raises UsageError if `out` holds a finished run, or an unfinished one that is not to be or cannot be resumed,
    DataError if the data does not fit, ModelError if the model or its starting weights do not.
    """
    folder = RunFolder(Path(out), writes=first_process())
    start = time.perf_counter()
    folder.require_free(resume=resume)
    cases, splits = open_splits(recipe, data)
    progress = progress if folder.writes else SILENT
    sizes = ", ".join(f"{name} {len(table)}" for name, table in splits.named().items())
    progress.step(f"{describe(cases)}\n{sizes} images")
    with thread_count(recipe.training.threads) as threads, isolated_seeds():
        datasets = read_parts(splits, recipe, progress)
        warn_about_absent_classes(datasets["train"].table)
        copies = count_copies(datasets)
        state = folder.begin(recipe, splits, [d for part in datasets.values() for d in part.survey.digests], threads)
        normalisation, statistics = measure(datasets["train"], recipe.model.channels)
        if recipe.normalisation != "data":
            normalisation = recipe.normalisation
        module = build_classifier(recipe, cases, datasets["train"], normalisation)
        start_of_training = time.perf_counter()
        history, best = train(module, datasets, folder, state, progress)
        end_of_training = time.perf_counter()
        probability, targets = _predict(module, datasets["val"])
        classes = classes_with_thresholds(cases, recipe.data.groups or {}, probability, targets)
        thresholds = thresholds_of(cases, classes)
        validation = figures(probability, targets, cases.logit_classes, thresholds)
        test = figures(*_predict(module, datasets["test"]), cases.logit_classes, thresholds)
    metrics: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "dataset": cases.summary(),
        "split": {name: dataset.table.summary() for name, dataset in datasets.items()},
        "copies_between_parts": copies,
        "device": str(module.device),
        "threads": threads,
        "epochs": len(history.rows),
        "best_epoch": best.epoch,
        "monitored": {"figure": recipe.training.monitor, "value": best.value},
        "seconds": {
            "data": start_of_training - start,
            "training": end_of_training - start_of_training,
            "total": time.perf_counter() - start,
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
        population=recipe.data.population or datasets["train"].table.population,
        recipe=recipe.name,
        seed=recipe.training.seed,
        metrics={"validation": validation, "test": test},
        versions=_versions(),
        created=utc_now(),
    )
    if folder.writes:
        write_reports(folder.path, metrics, history.rows)
        spec = save_checkpoint(folder.path, module.evaluated, spec)
        folder.finish()
    return Run(folder.path, spec, metrics)


def open_splits(recipe: Recipe, data: str | Path) -> tuple[CaseTable, Splits]:
    """The cases that a recipe is about, and their parts. Raises DataError."""
    spec = recipe.data
    cases = open_dataset(
        data,
        classes=spec.classes,
        ignore=spec.ignore_labels,
        allow_missing=spec.allow_missing,
        groups=spec.groups,
        patient_pattern=spec.patient_pattern,
    )
    if spec.per_class is not None:
        cases = cases.balanced(None if spec.per_class == "all" else spec.per_class, seed=spec.split_seed)
    splits = cases.split(spec.proportions, seed=spec.split_seed, official=spec.official)
    if len(splits.train) < 2:
        raise DataError(f"{cases.name} has {len(splits.train)} image to train on; give two or more (data.proportions)")
    return cases, splits


def build_classifier(
    recipe: Recipe, cases: CaseTable, training: CaseDataset, normalisation: Normalisation
) -> Classifier:
    """The module to train. Raises ModelError or UsageError if model, loss or phases do not fit the data."""
    size = recipe.preprocessing.height, recipe.preprocessing.width
    loss = build_loss(recipe.loss, cases.task, training.targets)
    monitored = _monitored(recipe, cases.logit_classes)
    # Here, so that the initial weights depend on the seed alone and not on how the data was read.
    lightning.seed_everything(recipe.training.seed, workers=True, verbose=False)
    model = build_model(recipe.model, len(cases.logit_classes), size)
    even = recipe.loss.weighting == "none" and recipe.training.sampling == "shuffled"
    if cases.task != "multiclass" and even:
        start_at_prevalence(model, recipe.model, training.targets)
    _require_fits(model, recipe)
    if recipe.training.channels_last:
        model = model.to(memory_format=torch.channels_last)
    module = Classifier(model, recipe, normalisation, cases.task, loss, monitored)
    module.phases.check(model)
    return module


@torch.inference_mode()
def _require_fits(model: torch.nn.Module, recipe: Recipe) -> None:
    """Raise ModelError if images of the recipe's size are too small, or too large, for the model."""
    height, width = recipe.preprocessing.height, recipe.preprocessing.width
    try:
        model.eval()(torch.zeros(1, recipe.model.channels, height, width))
    except RuntimeError as error:
        raise ModelError(
            f"{recipe.model.architecture} cannot take images of {height} x {width} ({first_line(error)}); change their"
            " size (preprocessing.height, preprocessing.width) or the model"
        ) from error
    finally:
        model.train()


def _monitored(recipe: Recipe, names: tuple[str, ...]) -> list[int]:
    """The columns of the classes that the monitored figure is about."""
    classes = recipe.training.monitor_classes or names
    if unknown := [name for name in classes if name not in names]:
        raise UsageError(f"training.monitor_classes names {unknown[0]!r}; the logits are of {', '.join(names)}")
    return [names.index(name) for name in classes]


@torch.inference_mode()
def _predict(module: Classifier, dataset: CaseDataset) -> tuple[Tensor, Tensor]:
    """Probabilities in float64 and targets, [n, logits] each, of a whole part."""
    module.eval()
    spec = module.recipe.training
    batches = loader(dataset, spec.batch_size, workers=spec.workers)
    pairs = [(module(images.to(module.device)).float().cpu(), targets) for images, targets in batches]
    logits, targets = torch.cat([pair[0] for pair in pairs]), torch.cat([pair[1] for pair in pairs])
    return probabilities(logits, module.task), targets


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions
