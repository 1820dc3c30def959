"""What a model says about a set of images, whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from xrt.runtime.backends.base import Session


@dataclass(frozen=True)
class Answers:
    """Logits and, for each CAM output, maps aligned with the explained classes."""

    logits: Float32[np.ndarray, "n logits"]
    cams: dict[str, Float32[np.ndarray, "n maps h w"]]


def answer(session: Session, images: UInt8[np.ndarray, "n 1 height width"], batch_size: int = 16) -> Answers:
    """Run all images through a session in batches."""
    outputs = [session.infer(images[i : i + batch_size]) for i in range(0, len(images), batch_size)]
    names = outputs[0].cams
    return Answers(
        logits=np.concatenate([o.logits for o in outputs]),
        cams={name: np.concatenate([o.cams[name] for o in outputs]) for name in names},
    )
