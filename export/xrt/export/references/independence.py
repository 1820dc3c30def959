"""Whether a reference's answer for an image is the same alone, and for which extreme inputs it has one at all."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from xrt.export.references.reference import Reference
from xrt.runtime.certification.stress import StressInputs
from xrt.runtime.errors import ModelError
from xrt.runtime.gate import LIMITS
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.phantoms import stress_images
from xrt.runtime.progress import SILENT, Progress

_COUNT = 3


def require_independent_images(
    reference: Reference, images: UInt8[np.ndarray, "n 1 h w"], outputs: ModelOutputs
) -> None:
    """Ask the reference for some images alone, and compare with what it gave for them in a batch.

    Raises ModelError when logits differ by more than fp32 rounding: then no batch of a session can be right.
    """
    limit = LIMITS["fp32"]["logit_error"]
    alone = reference.outputs(images[:_COUNT], batch_size=1)
    change = float(np.abs(alone.logits - outputs.logits[:_COUNT]).max() / (1 + np.abs(outputs.logits).max()))
    if not change <= limit:
        raise ModelError(
            f"the model's logits for an image differ by {change:.2g} between a batch of one and a larger one, the "
            f"limit is {limit:g}: it computes over the batch (statistics, a maximum); export one that does not"
        )


def finite_stress_inputs(reference: Reference, size: tuple[int, int], progress: Progress = SILENT) -> StressInputs:
    """The stress inputs of `size` (height, width) for which the reference gives numbers; others are noted."""
    images = stress_images(*size)
    finite = np.array([_gives_numbers(reference, images[i : i + 1]) for i in range(len(images))])
    if not finite.all():
        progress.note(
            f"the model itself gives NaN, infinity or an error for {(~finite).sum()} of {len(images)} extreme inputs "
            "(black, white, noise, strips): such images cannot be scored"
        )
    return StressInputs(images[finite])


def _gives_numbers(reference: Reference, image: UInt8[np.ndarray, "1 1 h w"]) -> bool:
    try:
        outputs = reference.outputs(image)
    except ModelError:
        return False
    return bool(np.isfinite(outputs.logits).all()) and all(np.isfinite(c).all() for c in outputs.cams.values())
