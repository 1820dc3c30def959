"""What a model says about a set of images, whoever ran it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from xrt.runtime.backends.base import Session


@dataclass(frozen=True)
class Answers:
    """Logits and, for each CAM output, maps of the explained classes; of each image's `cam_classes` with top-K."""

    logits: Float32[np.ndarray, "n logits"]
    cams: dict[str, Float32[np.ndarray, "n maps h w"]]
    cam_classes: Int64[np.ndarray, "n maps"] | None = None

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """The answers to several batches as one."""
        classes = [part.cam_classes for part in parts if part.cam_classes is not None]
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            cams={name: np.concatenate([part.cams[name] for part in parts]) for name in parts[0].cams},
            cam_classes=np.concatenate(classes) if classes else None,
        )


def answer(session: Session, images: UInt8[np.ndarray, "n 1 height width"], batch_size: int = 16) -> Answers:
    """Run all images through a session in batches."""
    outputs = [session.infer(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    return Answers.joined([Answers(o.logits, o.cams, o.cam_classes) for o in outputs])
