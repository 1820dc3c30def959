"""The keys of a recipe. Everything that decides a training run is here, and nothing else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from xrt.runtime.bundle.manifest import Part, Preprocessing
from xrt.train.data.augmentation import AugmentationSpec
from xrt.train.models.spec import ModelSpec, Normalisation


class DataSpec(Part):
    """Which labels are learned, from which images, and how the cases are split.

    `classes` null takes the data set's own. `groups` makes exclusive classes of labels instead, the negative first:
    `{normal: [No Finding], abnormal: ["*"]}`, where `*` is every label that no other group names. `per_class` keeps so
    many images of each exclusive class (`all`: as many as the rarest has), drawn by `split_seed`. `official` follows
    the publishers' split; otherwise patients are divided by `split_seed`, train, val and test getting `proportions` of
    the images. `patient_pattern` is a regular expression whose first group is the patient in an image's path, for data
    sets that name patients nowhere else. `population` says whose radiographs these are, which bundles repeat; null
    takes ages and views as the data set records them.
    `cache_mib` limits the memory for preprocessed images; a larger set is decoded again every epoch.
    """

    classes: tuple[str, ...] | None = None
    groups: dict[str, tuple[str, ...]] | None = None
    ignore_labels: tuple[str, ...] = ()
    allow_missing: float = Field(default=0.05, ge=0, le=1)
    patient_pattern: str | None = None
    population: str | None = Field(default=None, min_length=1)
    per_class: Annotated[int, Field(gt=0)] | Literal["all"] | None = None
    official: bool = False
    proportions: tuple[float, float, float] = (0.7, 0.15, 0.15)
    split_seed: int = 0
    cache_mib: int = Field(default=4096, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DataSpec:
        if min(self.proportions) <= 0 or abs(sum(self.proportions) - 1) > 1e-6:
            raise ValueError(f"proportions {self.proportions} must add up to 1 and each be above 0")
        if self.classes is not None and self.groups is not None:
            raise ValueError("classes and groups both name the classes; give one of them")
        return self


class LossSpec(Part):
    """The loss (`xrt.train.training.losses`); `kind` null is cross-entropy for a multiclass task, else binary.

    `weighting` balances rare and common classes: by the counts of each `batch`, or by their `prevalence` in the
    training part. `gamma` is the focal loss's. `label_smoothing` s moves targets 0 and 1 to s / 2 and 1 - s / 2 (for
    cross-entropy, to the uniform distribution), in training only.
    """

    kind: Literal["bce", "focal", "cross_entropy"] | None = None
    weighting: Literal["none", "batch", "prevalence"] = "none"
    gamma: float = Field(default=2.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class OptimSpec(Part):
    """The optimiser and its schedule. `lr` is the peak; `onecycle` and `cosine` are stepped every batch.

    `head_factor` multiplies the rate of the linear head. Global average pooling dilutes a lesion that fills one cell of
    256 by 256, so the head needs large weights to detect it, which take long to learn at the common rate. Weight decay
    leaves out biases and batch norm.
    """

    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    head_factor: float = Field(default=1.0, gt=0)
    schedule: Literal["constant", "cosine", "onecycle"] = "onecycle"
    warmup: float = Field(default=0.3, gt=0, lt=1)
    clip_norm: float | None = Field(default=None, gt=0)


class PhaseSpec(Part):
    """One phase of fine-tuning: how long, at which peak rate, and which modules learn; the others stay as they are.

    `train` names `head`, `last_block`, `all`, or module paths of the model.
    """

    epochs: int = Field(ge=1)
    lr: float = Field(gt=0)
    train: tuple[str, ...] = Field(default=("all",), min_length=1)


class TrainingSpec(Part):
    """The run itself.

    `phases` follow each other and replace `epochs` and `optim.lr`. `sampling` balanced draws every class equally often,
    with repetition. `ema` is the decay per batch of the averaged weights that are validated and kept (0: none).
    `precision` bf16 and fp16 are autocast, with weights in fp32. `threads` null leaves torch's choice; another number
    of threads gives other last digits. The weights of the epoch with the best validation `monitor` are kept, over
    `monitor_classes` (null: all that have a logit); `patience` ends a phase after so many epochs without a better one.
    `checkpoint_steps` is how many batches a kill may cost. `devices` counts them (`auto`: all); `strategy` is
    Lightning's.
    """

    epochs: int = Field(default=10, ge=1)
    phases: tuple[PhaseSpec, ...] = ()
    batch_size: int = Field(default=32, ge=2)
    sampling: Literal["shuffled", "balanced"] = "shuffled"
    seed: int = Field(default=0, ge=0, lt=2**32)
    ema: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    # Some thread libraries crash the process when they are asked for tens of thousands.
    threads: int | None = Field(default=None, ge=1, le=1024)
    workers: int = Field(default=0, ge=0)
    monitor: Literal["auroc", "loss", "accuracy", "recall", "precision", "f1"] = "auroc"
    monitor_classes: tuple[str, ...] | None = None
    patience: int | None = Field(default=None, ge=1)
    checkpoint_steps: int = Field(default=200, ge=1)
    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    strategy: str = "auto"
    tensorboard: bool = False


class Recipe(Part):
    """One training run. `explained_class` is the class, 0 or 1, that a binary model's heatmaps explain.

    `search` is the grid of `xrt search`: values by key, as in `--set`.
    """

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
    search: dict[str, list[JsonValue]] = {}

    @field_validator("preprocessing")
    @classmethod
    def _available(cls, preprocessing: Preprocessing) -> Preprocessing:
        # Not in `Preprocessing`: there are bundles and checkpoints that say so, made with bicubic.
        if preprocessing.interpolation == "lanczos" and not preprocessing.antialias:
            raise ValueError(
                "interpolation lanczos is not available without antialias; choose nearest, bilinear or bicubic, or"
                " antialias: true"
            )
        return preprocessing

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.normalisation != "data" and len(self.normalisation.mean) != self.model.channels:
            raise ValueError(
                f"normalisation has {len(self.normalisation.mean)} channels, the model {self.model.channels}"
            )
        return self
