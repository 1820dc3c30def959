"""The keys of recipes and checkpoints that describe the model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xrt.runtime.bundle.manifest import Part


class CompactSpec(Part):
    """Size of the `compact` network (see `xrt.train.models.compact`).

    One entry of `widths` (channels) and `blocks` (residual blocks) per stage; max pooling halves the side after
    each of the first `halvings` stages, so 2 leave a last map of 7 x 7 from 28 px and 3 one of 16 x 16 from
    128 px. `sharpness` is the r of `lse` pooling; `centred` is the first stage (counted from 0) whose kernels are
    held symmetric, None for none.
    """

    widths: tuple[Annotated[int, Field(gt=0)], ...] = (32, 64, 128)
    blocks: tuple[Annotated[int, Field(ge=0)], ...] = (0, 0, 1)
    halvings: int = Field(default=2, ge=0)
    pooling: Literal["average", "lse"] = "average"
    sharpness: float = Field(default=3.0, gt=0)
    centred: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> CompactSpec:
        if not self.widths or len(self.widths) != len(self.blocks):
            raise ValueError(f"{len(self.widths)} widths but {len(self.blocks)} numbers of blocks; give one per stage")
        if self.halvings >= len(self.widths):
            raise ValueError(
                f"{self.halvings} halvings need more than {len(self.widths)} stages: the last keeps its size"
            )
        if self.centred is not None and self.centred >= len(self.widths):
            raise ValueError(f"centred is stage {self.centred}; there are {len(self.widths)}, counted from 0")
        return self


class SmallCnnSpec(Part):
    """Size of `small_cnn`: the channels of its stages and of its hidden layer."""

    widths: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(32, 64, 128), min_length=1)
    hidden: int = Field(default=128, gt=0)


class HeadSpec(Part):
    """The head on the trunk (see `xrt.train.models.heads`).

    `linear` pools the average; `lse` pools log-sum-exp with r = `sharpness`, behind a 1 x 1 convolution to `transition`
    channels unless that is null; `mlp` max-pools by `pool`, flattens all positions and has one layer of `hidden`.
    """

    kind: Literal["linear", "lse", "mlp"]
    transition: int | None = Field(default=None, gt=0)
    sharpness: float = Field(default=10.0, gt=0)
    pool: int = Field(default=2, ge=1)
    hidden: int = Field(default=64, gt=0)


class ModelSpec(Part):
    """One model: its architecture, head, input channels and starting weights.

    `architecture` is a name of `xrt.train.models.ARCHITECTURES`, or `timm:NAME`. `channels` is 1 for grey input or 3
    for grey repeated, which pretrained weights expect. `weights` is null (random), `imagenet` (the library's default
    for the architecture) or a file of weights for the same architecture. `head` null keeps the architecture's own.
    `dropout` is the probability in front of the last linear layer.
    """

    architecture: str = "compact"
    channels: Literal[1, 3] = 1
    weights: str | None = None
    head: HeadSpec | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    compact: CompactSpec = CompactSpec()
    small_cnn: SmallCnnSpec = SmallCnnSpec()


class Normalisation(Part):
    """Mean and standard deviation, one per channel, of pixel / 255: the model sees (pixel / 255 - mean) / std."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
        if min(self.std) <= 0:
            raise ValueError(f"standard deviations must be positive, not {self.std}")
        return self
