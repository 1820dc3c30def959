"""Recipes: everything that decides a training run, as YAML with known keys only.

A recipe is one of the package's own (`recipes/*.yaml`), by name, or any YAML file, by path. `key=value`
overrides reach every key (`optim.lr=1e-3`); values are YAML, so `null`, `true`, `[0.8, 0.1, 0.1]` mean what
they mean there.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from xrt.runtime.bundle.manifest import Part, Preprocessing
from xrt.runtime.errors import DataError, UsageError
from xrt.train.augmentation import AugmentationSpec
from xrt.train.models.spec import ModelSpec, Normalisation


class DataSpec(Part):
    """Which labels are learned and how the cases are split.

    `classes` null takes the data set's own. `official` follows the publishers' split; otherwise patients are
    dealt out by `split_seed`, train, val and test getting `proportions` of the images. `cache_mib` limits the
    memory for preprocessed images; a larger set is decoded again every epoch.
    """

    classes: tuple[str, ...] | None = None
    ignore_labels: tuple[str, ...] = ()
    allow_missing: float = Field(default=0.05, ge=0, le=1)
    official: bool = False
    proportions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    cache_mib: int = Field(default=4096, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        if min(self.proportions) <= 0 or abs(sum(self.proportions) - 1) > 1e-6:
            raise ValueError(f"proportions {self.proportions} must add up to 1 and each be above 0")
        return self


class OptimSpec(Part):
    """The optimiser and its schedule. `lr` is the peak; `onecycle` and `cosine` are stepped every batch.

    `head_factor` multiplies the rate of the linear head. Behind global average pooling a lesion that fills
    one cell of 256 is diluted 256 times, so a head that shall see it needs large weights, and a common rate
    takes long to get there. Biases and batch norm are spared from weight decay.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    head_factor: float = Field(default=1.0, gt=0)
    schedule: Literal["constant", "cosine", "onecycle"] = "onecycle"
    warmup: float = Field(default=0.3, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)


class LossSpec(Part):
    """Cross-entropy for a multiclass task, otherwise binary cross-entropy a logit.

    `label_smoothing` s moves targets 0 and 1 to s / 2 and 1 - s / 2 (for cross-entropy, to the uniform
    distribution).
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class TrainingSpec(Part):
    """The run itself.

    `ema` is the decay a batch of the averaged weights that are validated and kept (0: none). `precision` bf16
    is autocast, with weights in fp32. `threads` null leaves torch's choice; another number of threads gives
    other last digits. `patience` stops after so many epochs without a better `monitor`.
    """

    epochs: int = Field(default=10, ge=1)
    batch_size: int = Field(default=32, ge=2)
    seed: int = 0
    ema: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    threads: int | None = Field(default=None, ge=1)
    workers: int = Field(default=0, ge=0)
    monitor: Literal["auroc", "loss"] = "auroc"
    patience: int | None = Field(default=None, ge=1)


class Recipe(Part):
    """One training run. `explained_class` is the class, 0 or 1, that a binary model's heatmaps explain."""

    name: str = Field(min_length=1)
    description: str = ""
    data: DataSpec = DataSpec()
    preprocessing: Preprocessing
    normalisation: Normalisation | Literal["data"] = "data"
    model: ModelSpec = ModelSpec()
    augmentation: AugmentationSpec = AugmentationSpec()
    loss: LossSpec = LossSpec()
    optim: OptimSpec = OptimSpec()
    training: TrainingSpec = TrainingSpec()
    explained_class: Literal[0, 1] = 1

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.normalisation != "data" and len(self.normalisation.mean) != self.model.channels:
            raise ValueError(
                f"normalisation has {len(self.normalisation.mean)} channels, the model {self.model.channels}"
            )
        return self


def known_recipes() -> tuple[str, ...]:
    """Names of the package's own recipes."""
    folder = resources.files("xrt.train") / "recipes"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that file, after `key=value` overrides.

    Raises UsageError for an unknown recipe or a malformed override, DataError for unknown keys and bad
    values; each names the key and, where there are some, the known ones.
    """
    source = str(name_or_path)
    if source in known_recipes():
        text = (resources.files("xrt.train") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    elif Path(source).is_file():
        text = Path(source).read_text(encoding="utf-8")
    else:
        raise UsageError(f"no recipe {source!r}: neither a file nor one of {', '.join(known_recipes())}")
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"recipe {source} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise DataError(f"recipe {source} must be a mapping of keys, not {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise DataError(f"recipe {source}: {'; '.join(map(_explain, error.errors()))}") from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, for example optim.lr=1e-3, not {override!r}")
    *parents, last = key.strip().split(".")
    for parent in parents:
        # A key that holds no mapping is replaced by one; validation then judges the result.
        if not isinstance(tree.get(parent), dict):
            tree[parent] = {}
        tree = tree[parent]
    try:
        tree[last] = _number(yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise UsageError(f"--set {key}: {value!r} is not a YAML value") from error


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3, without a point, as text.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        return f"unknown key {key!r}" + (f" (known: {', '.join(known)})" if known else "")
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    prefix = f"{key}: " if key else ""
    return f"{prefix}{error['msg'].removeprefix('Value error, ')} (got {error['input']!r})" if key else error["msg"]


def _known_keys(parents: Sequence[int | str]) -> list[str]:
    model: Any = Recipe
    for parent in parents:
        field = getattr(model, "model_fields", {}).get(parent)
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))
