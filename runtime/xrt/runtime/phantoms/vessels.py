"""Pulmonary vessels: two trees that fork outwards from the hila, drawn thin branches first."""

from __future__ import annotations

import numpy as np

from xrt.runtime.phantoms.canvas import Canvas

_LEVELS = 7
_LARGEST = 0.62  # cm, radius that the layer's full value means


def build(canvas: Canvas, rng: np.random.Generator, shift: float) -> np.ndarray:
    """Path through vessels, float32 [n, n] in cm; the caller keeps what lies in lung."""
    layer = canvas.layer()
    generations = []
    for side in (-1, 1):
        generations.append(_tree(rng, side, shift))
    for level in reversed(range(_LEVELS)):
        for tree in generations:
            segments, radii = tree[level]
            layer.lines(segments, 2 * radii, np.minimum(radii / _LARGEST, 1) ** 0.75)
    return layer.array() * np.float32(5.0 * _LARGEST)


def _tree(rng: np.random.Generator, side: int, shift: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Segments [m, 4, 2] in cm and radii [m] for each generation of one lung's tree."""
    stems = 9
    # From straight up over lateral to straight down: angles measured from upwards, away from the midline.
    angle = np.linspace(0.1, 2.95, stems) + rng.normal(0, 0.2, stems)
    start = np.stack([np.full(stems, side * 3.0) + shift, 10.6 - 0.7 * (side > 0) + 1.6 * (angle / 1.5 - 1)], axis=1)
    radius = np.where(angle > 1.6, 0.30, 0.22) * rng.uniform(0.75, 1.2, stems)
    length = 2.2 * rng.uniform(0.8, 1.2, stems) * (1 + 0.25 * (angle > 2.0))
    generations = []
    for _ in range(_LEVELS):
        bend = rng.normal(0, 0.3, len(angle))
        turns = angle[:, None] + bend[:, None] * np.array([0.0, 0.5, 1.0])
        steps = np.stack([side * np.sin(turns), -np.cos(turns)], axis=2) * (length / 3)[:, None, None]
        points = np.concatenate([start[:, None], start[:, None] + np.cumsum(steps, axis=1)], axis=1)
        generations.append((points, radius))
        fork = rng.uniform(0.25, 0.65, len(angle))
        share = rng.uniform(0.74, 0.9, len(angle)), rng.uniform(0.4, 0.66, len(angle))
        end = turns[:, -1]
        # The larger child keeps the direction, the smaller one leaves to either side.
        way = rng.choice((-1.0, 1.0), len(angle))
        angle = np.concatenate([end - 0.35 * fork * way, end + 1.3 * fork * way])
        start = np.concatenate([points[:, -1], points[:, -1]])
        radius = np.concatenate([radius * share[0], radius * share[1]])
        length = np.concatenate([0.9 * length, 0.62 * length]) * rng.uniform(0.75, 1.05, len(angle))
    return generations
