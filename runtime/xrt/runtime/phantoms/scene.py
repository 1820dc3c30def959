"""What a lesion's rule is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xrt.runtime.phantoms.canvas import Canvas
from xrt.runtime.phantoms.patient import Anatomy, Exposure
from xrt.runtime.phantoms.thorax import Thorax

WATER = np.float32(0.2)  # 1/cm, attenuation of water at the mean energy of a chest beam


@dataclass
class Scene:
    """A healthy chest in the body frame, and the generator that a rule draws its choices from."""

    body: Anatomy
    shot: Exposure
    canvas: Canvas
    chest: Thorax
    vessels: np.ndarray  # [n, n], log attenuation of the vessels in lung
    rng: np.random.Generator
    lesion_circles: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, radius

    def lung_at(self, x: float, y: float) -> float:
        """Lung crossed by the beam at a point, in cm."""
        return float(self.chest.air[self.canvas.row(y), self.canvas.column(x)])

    def filled(self, rows: slice, cols: slice, depth: float) -> np.ndarray:
        """How much of a lesion finds room in lung, 0..1: all where the beam crosses `depth` cm or more."""
        return np.minimum(self.chest.air[rows, cols] / np.float32(depth), 1)

    def spot(self, radius: float, *, side: int = 0, upper: float = 0.0, lower: float = 1.0) -> tuple[float, float]:
        """A point in a lung with room around it, clear of other lesions as far as 60 tries can make it.

        `side` is −1 for the viewer's left, 1 for the right, 0 for either; `upper` and `lower` bound the
        height as fractions of the lung. Where nothing fits, the point with the most lung is taken.
        """
        best, most = (0.0, 0.0), -1.0
        around = [(0.6 * radius * a, 0.6 * radius * b) for a, b in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))]
        for _ in range(60):
            where = side or (1 if self.rng.random() < 0.48 else -1)
            tall = float(self.chest.domes[self.canvas.column(where * 0.45 * self.body.width)])
            y = 1.5 + (tall - 2.0) * self.rng.uniform(upper, lower)
            edge = self.chest.wall_at(self.canvas, y) - 0.6 * radius - 0.4
            x = where * self.rng.uniform(3.0, max(edge, 3.5))
            lung = min(self.lung_at(x + u, y + v) for u, v in around)
            free = all(np.hypot(x - u, y - v) > radius + r for u, v, r in self.lesion_circles)
            fits = free and lung > 7.0
            if fits or lung > most:
                best, most = (x, y), lung
            if fits:
                break
        self.lesion_circles.append((*best, radius))
        return best


@dataclass
class Change:
    """One opacity, or lucency, as a change of log attenuation in a window of the grid.

    `unit` is scaled until the lesion has the contrast asked for; `fixed` is what the lesion changes whatever
    its contrast (vessels that are gone, a heart that has grown).
    """

    rows: slice
    cols: slice
    unit: np.ndarray | None = None
    fixed: np.ndarray | None = None
    share: float = 1.0  # of the lung's air that `unit` may at most replace
    box: tuple[float, float, float, float] | None = None  # cm; where the box is anatomical, not measured
