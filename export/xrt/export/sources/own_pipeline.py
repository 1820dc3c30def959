"""Asking the preprocessing function that a factory's module names: it makes inputs, so nothing about it is assumed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from xrt.runtime._io import first_line
from xrt.runtime.certification.original import Original
from xrt.runtime.errors import ModelError
from xrt.runtime.phantoms import generate

COUNT, SIZE = 8, 320
"""Phantoms that are asked, and the longer side of each in pixels; every other one is upright, the rest lie."""


def ask(function: Callable[[Any], Any], name: str) -> Original:
    """What `function` makes of phantoms, given as Pillow images in RGB, as transforms take them.

    Raises ModelError when it fails or gives no array of numbers.
    """
    stored, inputs = [], []
    for index, phantom in enumerate(generate(COUNT, seed=7, size=SIZE)):
        cut = SIZE // 8
        image = phantom.image[:, cut:-cut] if index % 2 else phantom.image[cut:-cut]
        image = np.ascontiguousarray(image)
        try:
            made = function(Image.fromarray(image).convert("RGB"))
            array = made.detach().numpy() if isinstance(made, torch.Tensor) else np.asarray(made)
        except Exception as error:  # it is the user's, and may raise anything
            raise ModelError(
                f"{name} fails on a Pillow image: {first_line(error)}; correct it, or rename it and state the "
                "preprocessing with options"
            ) from error
        if array.dtype.kind not in "fiu":
            raise ModelError(f"{name} gives {array.dtype}, not the numbers that the network takes")
        stored.append(image)
        inputs.append(array.astype(np.float32))
    names = tuple(f"phantom {index}" for index in range(COUNT))
    return Original(f"{name} of the model's module", names, tuple(inputs), stored=tuple(stored))
