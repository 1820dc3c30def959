"""What a phantom is: the image, its labels and boxes, and the few words of its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from xrt.runtime.geometry import Box

# The NIH labels for which there is a rule, in the order of the NIH paper's list.
LESIONS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)

# Contrast-to-noise ratios, from hardly visible to obvious; README.md says how they are defined.
DEFAULT_CONTRAST: tuple[float, float] = (18.0, 110.0)

# The burned-in word, the PNG chunk, the DICOM comment and the README of a folder all carry this.
DESCRIPTION = "synthetic phantom, not a patient"


@dataclass(frozen=True)
class Lesion:
    """One lesion: its label, a tight box around its visible extent in pixels of the image, and its contrast.

    `contrast` is the contrast-to-noise ratio: the mean change of log exposure over the visible extent, over the
    standard deviation of the quantum noise in a 1 mm aperture at the same place. For Cardiomegaly, which has no
    contrast of its own, the same scale grades the cardiothoracic ratio (see `diffuse.cardiomegaly`).
    """

    label: str
    box: Box
    contrast: float


@dataclass(frozen=True)
class Phantom:
    """One synthetic frontal chest radiograph: uint8 `image` [H, W], bright where much is absorbed."""

    image: np.ndarray
    labels: tuple[str, ...]  # NIH names, sorted; empty means "No Finding"
    lesions: tuple[Lesion, ...]
    patient_id: int
    follow_up: int
    age: int
    sex: Literal["M", "F"]
    view: Literal["PA", "AP"]
    spacing: float  # mm, side of a pixel
