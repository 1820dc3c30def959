"""What a recipe and a checkpoint say about the model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from xrt.runtime.bundle.manifest import Part


class CompactSpec(Part):
    """Size of the `compact` network.

    `widths` are the channels of its three stages; `stem_stride` 1 leaves a last map of a quarter of the input's
    side (7 x 7 at 28 px), 2 an eighth (16 x 16 at 128 px); `blocks` is the number of residual blocks a stage.
    """

    widths: tuple[int, int, int] = (32, 64, 128)
    blocks: int = Field(default=1, ge=1, le=8)
    stem_stride: Literal[1, 2, 4] = 1


class ModelSpec(Part):
    """One model: its architecture, input channels and starting weights.

    `channels` is 1 for grey input or 3 for grey repeated, which pretrained weights expect. `weights` is null (random),
    `imagenet` (torchvision's default for the architecture) or a file of weights for the same architecture. `dropout`
    is the probability in front of the linear head.
    """

    architecture: str = "compact"
    channels: Literal[1, 3] = 1
    weights: str | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    compact: CompactSpec = CompactSpec()


class Normalisation(Part):
    """Mean and standard deviation, one a channel, of pixel / 255: the model sees (pixel / 255 - mean) / std."""

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means but {len(self.std)} standard deviations")
        if min(self.std) <= 0:
            raise ValueError(f"standard deviations must be positive, not {self.std}")
        return self
