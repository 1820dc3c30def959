"""Who is radiographed, and how: the random draws of a patient's anatomy and of one exposure.

Everything here is a number in centimetres, or a ratio. The body frame has x to the viewer's right (the
patient's left), y downwards, and its origin at the height of the lung apices in the midline.

A phantom's index decides its patient and follow-up number without any other phantom being made: every
block of eight indices holds four patients, whose numbers of the eight are shuffled by the block's own
generator. Each generator is keyed by (seed, what it is for, patient or block, follow-up).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

BLOCK = 8  # images
_SHARES = ((1, 1, 2, 4), (1, 1, 3, 3), (1, 2, 2, 3), (2, 2, 2, 2))  # images of a block's four patients

_BLOCK, _ANATOMY, _EXPOSURE, LESION, NOISE, TEXTURE, PLAN = range(7)  # what a generator is for


@dataclass(frozen=True)
class Anatomy:
    """One patient's body, the same in every follow-up. Lengths in cm."""

    sex: Literal["M", "F"]
    age: int
    width: float  # half width of the thoracic cavity where it is widest
    depth: float  # half depth of the same
    shape: float  # exponent of the superellipse that outlines the lungs; larger is squarer
    wall: float  # chest wall with its fat
    dome: float  # y of the right dome at full inspiration
    heart: float  # cardiothoracic ratio of the healthy heart
    heart_right: float  # share of the heart right of the midline
    heart_tilt: float  # rad
    knob: float  # radius of the aortic knob
    breast: float  # thickness of breast tissue
    breast_y: float
    bone: float  # mineral density, 1 is average
    pitch: float  # distance of neighbouring ribs at the spine
    tilt: float  # scales how far ribs descend
    clavicle: float  # y of the medial ends
    shoulder: float  # y of the shoulders
    inflation: float  # density of lung parenchyma relative to water
    bubble: tuple[float, float, float]  # gastric bubble: x, y below the left dome, radius; radius 0: none


@dataclass(frozen=True)
class Exposure:
    """One radiograph of a patient: positioning, beam and film. None of it knows the lesions."""

    view: Literal["PA", "AP"]
    field: float  # cm across the image
    angle: float  # rad
    centre: tuple[float, float]  # cm in the body frame
    expiration: float  # cm by which the domes stand higher than at full inspiration
    rotation: float  # cm by which the mediastinum is shifted, as by a patient slightly turned
    arms: float  # cm by which the arms are held away
    noise: float  # sd of log exposure in a 1 mm aperture where the lung is
    scatter: float  # scattered over primary exposure, averaged over the body
    dark: float  # grey of the lungs, 0..1
    bright: float  # grey of the mediastinum, 0..1
    border: tuple[float, float, float, float]  # collimated share: left, top, right, bottom
    marker: tuple[str, float, float]  # side letter, its x and y as fractions of the image


def locate(index: int, seed: int) -> tuple[int, int]:
    """Patient id (from 1) and follow-up number (from 0) of the phantom with this index."""
    block, place = divmod(index, BLOCK)
    rng = generator(seed, _BLOCK, block)
    shares = rng.permutation(_SHARES[rng.integers(len(_SHARES))])
    for j, share in enumerate(shares):
        if place < share:
            return block * len(shares) + j + 1, int(place)
        place -= int(share)
    raise AssertionError("a block's shares add up to its size")


def generator(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """A generator of its own for each purpose, so that a new draw in one moves nothing in another."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, purpose, *key])))


def anatomy(seed: int, patient: int) -> Anatomy:
    """The body of a patient: adults of either sex, thin to stout."""
    rng = generator(seed, _ANATOMY, patient)
    female = bool(rng.random() < 0.47)
    age = int(np.clip(rng.normal(50, 17), 18, 92))
    stout = rng.beta(2, 3)  # 0 thin, 1 stout
    size = rng.normal(1.0, 0.04) * (0.94 if female else 1.03)
    return Anatomy(
        sex="F" if female else "M",
        age=age,
        width=size * rng.uniform(13.2, 14.6),
        depth=size * rng.uniform(8.8, 10.4),
        shape=rng.uniform(2.05, 2.5),
        wall=1.2 + 2.8 * stout,
        dome=size * rng.uniform(21.0, 24.0) - 1.5 * stout,
        heart=float(np.clip(rng.normal(0.425 + 0.025 * stout, 0.02), 0.37, 0.465)),
        heart_right=rng.uniform(0.29, 0.37),
        heart_tilt=rng.uniform(0.55, 0.85),
        knob=rng.uniform(1.2, 1.6) + 0.006 * max(age - 40, 0),
        breast=rng.uniform(1.0, 4.0) * (0.7 + 0.6 * stout) if female else 0.7 * stout,
        breast_y=rng.uniform(16.0, 20.0),
        bone=rng.normal(1.05, 0.1) - 0.004 * max(age - 50, 0),
        pitch=size * rng.uniform(2.25, 2.55),
        tilt=rng.uniform(0.85, 1.15),
        clavicle=rng.uniform(1.8, 3.6),
        shoulder=rng.uniform(-2.2, 0.2),
        inflation=rng.uniform(0.22, 0.30),
        bubble=(rng.uniform(5.0, 8.5), rng.uniform(2.0, 3.2), rng.uniform(1.0, 2.2) * (rng.random() < 0.6)),
    )


def exposure(seed: int, patient: int, follow_up: int, body: Anatomy) -> Exposure:
    """How one radiograph was taken: upright PA at best, supine AP at worst."""
    rng = generator(seed, _EXPOSURE, patient, follow_up)
    ap = bool(rng.random() < 0.35)
    field = (2 * (body.width + 0.6 * body.wall) + rng.uniform(2.5, 7.5)) * (0.97 if ap else 1.0)
    sides = rng.random(4) < (0.12 if ap else 0.18)
    left, top, right, bottom = (float(b) for b in sides * rng.uniform(0.01, 0.05, 4))
    side = "L" if rng.random() < 0.75 else "R"
    across = rng.uniform(0.87, 0.93)
    return Exposure(
        view="AP" if ap else "PA",
        field=field,
        angle=rng.normal(0, 0.035 if ap else 0.018),
        centre=(rng.normal(0, 0.7), 0.5 * (body.dome + 2.5) + rng.normal(0.6, 0.8)),
        expiration=rng.uniform(0.8, 3.5) if ap else rng.uniform(0.0, 1.2),
        rotation=rng.normal(0, 0.45 if ap else 0.25),
        arms=rng.uniform(0.0, 2.5),
        noise=0.008 * rng.uniform(0.8, 1.3) * (1.15 if ap else 1.0),
        scatter=rng.uniform(0.28, 0.5) if ap else rng.uniform(0.15, 0.32),
        dark=rng.uniform(0.2, 0.38) if ap else rng.uniform(0.13, 0.32),
        bright=rng.uniform(0.78, 0.92) if ap else rng.uniform(0.84, 0.94),
        border=(left, top, right, bottom),
        marker=(side, across if side == "L" else 1 - across, rng.uniform(0.06, 0.16)),
    )
