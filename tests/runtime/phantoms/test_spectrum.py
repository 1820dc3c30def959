"""Phantoms that stand for radiographs as inputs of a graph have their spectrum."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.imaging import read_radiograph
from xrt.runtime.phantoms import generate, phantom_images
from xrt.runtime.phantoms.spectrum import with_radiograph_spectrum
from xrt.runtime.preprocessing import preprocess

BANDS = np.array([1, 2, 4, 8, 16, 32, 64, 100])
"""Cycles per side: up to where 224 pixels end."""


def powers(images):
    """Log power of every image in every band, by another way than the product's: a Hann window, no mirroring."""
    side = images.shape[-1]
    window = np.hanning(side)[:, None] * np.hanning(side)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)) * side
    rows = []
    for image in images[:, 0].astype(np.float64):
        power = np.abs(np.fft.fft2((image - image.mean()) / image.std() * window)) ** 2
        bands = pairwise(BANDS)
        rows.append([power[(frequency >= low) & (frequency < high)].mean() for low, high in bands])
    return np.log10(rows)


def test_the_spectrum_is_that_of_real_radiographs(shared):
    """Medians within 0.3 of a decade in every band, since contrast is kept. As drawn, one is off by more."""
    spec = Preprocessing(height=224, width=224)
    files = sorted((shared / "xrays" / "nih" / "images").iterdir())
    real = np.stack([preprocess(read_radiograph(file).pixels, spec)[0] for file in files])[:, None]
    expected = np.median(powers(real), axis=0)
    np.testing.assert_allclose(np.median(powers(phantom_images(40, 1, spec)), axis=0), expected, atol=0.3)
    drawn = np.stack([phantom.image for phantom in generate(20, seed=1, size=224)])[:, None]
    assert np.abs(np.median(powers(drawn), axis=0) - expected).max() > 0.4


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_brightness_contrast_and_anatomy_stay(size):
    (phantom,) = generate(1, seed=2, size=160)
    image = np.asarray(Image.fromarray(phantom.image).resize(size[::-1]))
    shaped = with_radiograph_spectrum(image, "bilinear", np.random.default_rng(0))
    assert shaped.shape == size
    # What black and white cut off changes both a little.
    assert abs(float(shaped.mean()) - image.mean()) < 5
    assert abs(float(shaped.std()) - image.std()) < 8
    assert np.corrcoef(shaped.ravel(), image.ravel())[0, 1] > 0.85


def test_a_uniform_image_stays():
    grey = np.full((64, 64), 9, dtype=np.uint8)
    np.testing.assert_array_equal(with_radiograph_spectrum(grey, "bilinear", np.random.default_rng(0)), grey)
