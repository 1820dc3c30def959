"""The power spectrum of real radiographs, given to phantoms that stand for them as inputs of a graph.

A phantom is drawn at the graph's own size, so its film noise is not averaged by a resize, and its fine structure is
cleaner than an anatomy's: variants that pass on it may fail on radiographs. Here every frequency gets the power that it
has in real ones, with their spread; the phases, and so the anatomy, stay.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

from xrt.runtime.bundle.manifest import Interpolation

FREQUENCIES = np.array([1.41, 2.83, 5.66, 11.31, 22.63, 45.25, 90.51, 181.02, 362.04])
"""Cycles per side of the image."""
POWER = np.array([-2.51, -3.02, -4.60, -5.39, -6.35, -7.26, -8.18, -9.12, -9.92])
DEVIATION = np.array([0.21, 0.29, 0.22, 0.23, 0.21, 0.22, 0.24, 0.25, 0.26])
"""Median and standard deviation of log10 of the power of one mode, under a Hann window, of images of mean 0 and
deviation 1: measured on 42 frontal radiographs of NIH ChestX-ray14 (Wang et al. 2017) at 1024 x 1024."""
_STORED = 1024
_COARSE = 40.0
"""Cycles: below it power varies with anatomy and contrast, above it with sharpness and noise, each on its own."""
_BAND = 1.2
"""A frequency's power is the mean over modes from 1 / _BAND to _BAND of it."""


def with_radiograph_spectrum(
    image: UInt8[np.ndarray, "height width"], interpolation: Interpolation, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width"]:
    """The image with the spectrum that a radiograph has after it was resized to this size with `interpolation`.

    Mean and deviation stay as they are, up to what black and white cut off.
    """
    pixels = image.astype(np.float64)
    mean, deviation = pixels.mean(), pixels.std()
    if not deviation:
        return image
    height, width = image.shape
    standard = (pixels - mean) / deviation
    down, across = np.abs(np.fft.fftfreq(height)) * height, np.fft.rfftfreq(width) * width
    frequency = np.hypot(down[:, None], across)
    power = np.abs(np.fft.rfft2(standard * np.hanning(height)[:, None] * np.hanning(width)) / image.size) ** 2
    response = _response(down, interpolation, height)[:, None] * _response(across, interpolation, width)
    known = FREQUENCIES[: int(np.searchsorted(FREQUENCIES, min(height, width) / 2))]
    coarse, fine = rng.standard_normal(2).clip(-1.645, 1.645)
    spread = DEVIATION[: len(known)] * np.where(known < _COARSE, coarse, fine)
    target = POWER[: len(known)] + spread + [_log_mean(response, frequency, centre) for centre in known]
    own = np.array([_log_mean(power, frequency, centre) for centre in known])
    # Mirrored, so that opposite borders do not meet as an edge.
    mirrored = np.pad(standard, ((0, height), (0, width)), mode="symmetric")
    finer = np.hypot((np.abs(np.fft.fftfreq(2 * height)) * height)[:, None], np.fft.rfftfreq(2 * width) * width)
    gains = np.interp(np.log(np.maximum(finer, 1e-9)), np.log(known), (target - own) / 2)
    shaped = np.fft.irfft2(np.fft.rfft2(mirrored) * 10.0**gains, s=mirrored.shape)[:height, :width]
    shaped *= deviation / shaped.std()
    return np.rint(shaped - shaped.mean() + mean).clip(0, 255).astype(np.uint8)


def _response(frequency: Float[np.ndarray, " n"], interpolation: Interpolation, side: int) -> Float[np.ndarray, " n"]:
    """The power that a resize of a stored radiograph to `side` pixels leaves of `frequency`, in cycles per side."""
    if side >= _STORED:
        return np.ones_like(frequency)
    box = np.sinc(frequency / side) ** 2
    return {"bilinear": box**2, "area": box}.get(interpolation, np.ones_like(frequency))


def _log_mean(values: Float[np.ndarray, "h w"], frequency: Float[np.ndarray, "h w"], centre: float) -> float:
    near = (frequency > centre / _BAND) & (frequency < centre * _BAND)
    return float(np.log10(max(float(values[near].mean()), 1e-30)))
