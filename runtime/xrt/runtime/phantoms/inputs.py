"""Phantoms as a graph's inputs: they hold no patient's data, so they may travel in a bundle."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.phantoms.render import phantom
from xrt.runtime.phantoms.spectrum import with_radiograph_spectrum
from xrt.runtime.preprocessing import preprocess


def phantom_images(count: int, seed: int, spec: Preprocessing) -> UInt8[np.ndarray, "n 1 height width"]:
    """`count` phantoms drawn from `seed` and preprocessed as `spec` says: uint8 [count, 1, spec.height, spec.width].

    They have the spectrum of real radiographs (`xrt.runtime.phantoms.spectrum`), each its own.
    """
    return np.stack([_input(index, seed, spec) for index in range(count)])[:, None]


def _input(index: int, seed: int, spec: Preprocessing) -> UInt8[np.ndarray, "height width"]:
    # A phantom smaller than 64 pixels would show nothing; it is drawn larger and resized like any image.
    image = preprocess(phantom(index, seed=seed, size=max(64, spec.height, spec.width)).image, spec)[0]
    return with_radiograph_spectrum(image, spec.interpolation, np.random.default_rng((seed, index)))
