"""What every reference has in common: uint8 images in, logits and CAMs out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from xrt.export.cams.explained_logits import ExplainedLogits
from xrt.runtime.outputs import ModelOutputs, in_batches
from xrt.runtime.progress import SILENT, Progress
from xrt.train.models import Normalisation


class Reference(ABC):
    """A model that a bundle's variants are compared with; `name` says what computes it."""

    name: str
    explained: ExplainedLogits

    def outputs(
        self, images: UInt8[np.ndarray, "n 1 h w"], batch_size: int = 8, *, progress: Progress = SILENT
    ) -> ModelOutputs:
        """Logits and CAMs of all images. Raises ModelError when the reference cannot be one."""
        return in_batches(self._outputs, images, batch_size, progress, "reference")

    @abstractmethod
    def _outputs(self, images: UInt8[np.ndarray, "n 1 h w"]) -> ModelOutputs:
        """Logits and CAMs of one batch."""


def float_pixels(
    images: UInt8[np.ndarray, "n 1 h w"], normalisation: Normalisation
) -> Float[torch.Tensor, "n channels h w"]:
    """The input of a float model for uint8 images: (pixel / 255 - mean) / std for each channel, in float32."""
    grey = torch.from_numpy(images).to(torch.float64) / 255
    centre, deviation = (
        torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (normalisation.mean, normalisation.std)
    )
    return ((grey - centre) / deviation).to(torch.float32)


def explained_classes(
    logits: Float[torch.Tensor, "n logits"], explained: ExplainedLogits
) -> Int[torch.Tensor, "n maps"]:
    """The indices of the logits that each image's maps explain."""
    if explained.top_k:
        return logits.topk(explained.top_k, dim=1).indices
    return torch.tensor(explained.classes).expand(len(logits), -1)
