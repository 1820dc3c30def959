"""What a model gives for a set of images, on any back end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8

if TYPE_CHECKING:
    from xrt.runtime.progress import Progress


@dataclass(frozen=True)
class ModelOutputs:
    """Logits [n, logits] and, for each CAM output, maps [n, maps, h, w] of the explained classes.

    With top-K explanation `cam_classes` [n, maps] says which classes each image's maps explain. `cams` is empty when
    only logits were asked for.
    """

    logits: Float32[np.ndarray, "n logits"]
    cams: dict[str, Float32[np.ndarray, "n maps h w"]] = field(default_factory=dict)
    cam_classes: Int64[np.ndarray, "n maps"] | None = None

    @classmethod
    def joined(cls, parts: Sequence[ModelOutputs]) -> ModelOutputs:
        """The outputs for several batches as one."""
        classes = [part.cam_classes for part in parts if part.cam_classes is not None]
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            cams={name: np.concatenate([part.cams[name] for part in parts]) for name in parts[0].cams},
            cam_classes=np.concatenate(classes) if classes else None,
        )

    def first(self, count: int) -> ModelOutputs:
        """The outputs for the first `count` images."""
        return ModelOutputs(
            logits=self.logits[:count],
            cams={name: maps[:count] for name, maps in self.cams.items()},
            cam_classes=None if self.cam_classes is None else self.cam_classes[:count],
        )

    @property
    def finite(self) -> Bool[np.ndarray, " n"]:
        """Which images have neither NaN nor infinity in any output."""
        rows = np.asarray(np.isfinite(self.logits).all(axis=1))
        for maps in self.cams.values():
            rows = rows & np.isfinite(maps).all(axis=(1, 2, 3))
        return rows


def in_batches(
    run: Callable[[UInt8[np.ndarray, "b 1 h w"]], ModelOutputs],
    images: UInt8[np.ndarray, "n 1 h w"],
    batch_size: int,
    progress: Progress,
    what: str,
) -> ModelOutputs:
    """What `run` gives for all images, asked in batches; `progress` counts images under the name `what`."""
    parts = []
    for start in range(0, len(images), batch_size):
        parts.append(run(images[start : start + batch_size]))
        progress.count(min(start + batch_size, len(images)), len(images), what)
    return ModelOutputs.joined(parts)
