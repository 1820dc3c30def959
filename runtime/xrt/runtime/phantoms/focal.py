"""Lesions with a place in a lung: nodule, mass, consolidation, pneumonia, atelectasis."""

from __future__ import annotations

import numpy as np

from xrt.runtime.phantoms.canvas import bulge, soft
from xrt.runtime.phantoms.scene import Change, Scene


def nodule(scene: Scene, strength: float) -> list[Change]:
    """A small round opacity, 1.3 to 3 cm across, with a nearly even rim."""
    radius = scene.rng.uniform(0.65, 1.5)
    x, y = scene.spot(radius)
    return [_ball(scene, x, y, radius, 0.06, 0.8)]


def mass(scene: Scene, strength: float) -> list[Change]:
    """A lobulated opacity of 3.5 to 7 cm."""
    radius = scene.rng.uniform(1.8, 3.3)
    x, y = scene.spot(radius)
    return [_ball(scene, x, y, radius, 0.16, 0.55)]


def consolidation(scene: Scene, strength: float) -> list[Change]:
    """One confluent lobar opacity with fluffy edges, dark bronchi in it; at times one on either side."""
    side = int(scene.rng.choice((-1, 1)))
    changes = [_fluff(scene, scene.rng.uniform(3.2, 4.8), side, (0.1, 0.95), grain=2.2, patchy=0.45)]
    if scene.rng.random() < 0.2:
        changes.append(_fluff(scene, scene.rng.uniform(2.2, 3.4), -side, (0.2, 0.95), grain=2.2, patchy=0.45))
    return changes


def pneumonia(scene: Scene, strength: float) -> list[Change]:
    """Bronchopneumonia: two to four small patchy foci, mostly in the lower zones."""
    changes = []
    side = int(scene.rng.choice((-1, 1)))
    for k in range(int(scene.rng.integers(2, 5))):
        where = side if k < 2 or scene.rng.random() < 0.5 else -side
        changes.append(_fluff(scene, scene.rng.uniform(1.5, 2.3), where, (0.3, 1.0), grain=1.5, patchy=0.8))
    return changes


def peripheral(scene: Scene, strength: float) -> list[Change]:
    """Patches along the chest wall of both lungs, as in COVID-19: for the COVID layout only."""
    changes = []
    for side in (-1, 1):
        number = int(scene.rng.integers(2, 4))
        for k in range(number):
            radius = scene.rng.uniform(1.8, 3.0)
            tall = float(scene.chest.domes[scene.canvas.column(side * 0.7 * scene.body.width)])
            y = tall * (0.3 + 0.65 * (k + scene.rng.uniform(0.2, 0.8)) / number)
            x = side * (scene.chest.wall_at(scene.canvas, y) - radius * scene.rng.uniform(0.35, 0.8))
            changes.append(_fluff(scene, radius, side, (0, 1), grain=1.5, patchy=0.7, at=(x, y)))
    return changes


def atelectasis(scene: Scene, strength: float) -> list[Change]:
    """Plate-like collapse: one to three nearly horizontal bands above a dome."""
    rng, canvas = scene.rng, scene.canvas
    reach = rng.uniform(2.6, 4.2)
    x0 = y0 = 0.0
    for _ in range(12):  # until it is not behind the heart
        x0 = int(rng.choice((-1, 1))) * rng.uniform(0.5, 0.7) * scene.body.width
        y0 = float(scene.chest.domes[canvas.column(x0)]) - rng.uniform(2.0, 6.5)
        if scene.lung_at(x0, y0) > 8.0:
            break
    rows, cols = canvas.window(x0 - reach - 1, y0 - 3.4, x0 + reach + 1, y0 + 3.4)
    x, y = canvas.x[:, cols] - np.float32(x0), canvas.y[rows]
    unit = np.zeros((y.shape[0], x.shape[1]), np.float32)
    tilt = rng.normal(0.0, 0.16)
    for k in range(int(rng.integers(1, 4))):
        thick = rng.uniform(0.28, 0.55)
        middle = y0 + k * rng.uniform(0.9, 1.5) + tilt * x + 0.02 * rng.normal(0, 1) * x * x
        band = np.exp(-(((y - middle) / thick) ** 2)) * np.clip(1 - (x / (reach * rng.uniform(0.7, 1.0))) ** 2, 0, None)
        unit = np.maximum(unit, band * rng.uniform(0.75, 1.0))
    return [Change(rows, cols, (unit * scene.filled(rows, cols, 8.0)).astype(np.float32))]


def _ball(scene: Scene, x0: float, y0: float, radius: float, lobes: float, flat: float) -> Change:
    """A solid on a circle that waves by `lobes` of its radius; `flat` is the exponent of its chord."""
    canvas, rng = scene.canvas, scene.rng
    rows, cols = canvas.window(x0 - 1.6 * radius, y0 - 1.6 * radius, x0 + 1.6 * radius, y0 + 1.6 * radius)
    x, y = canvas.x[:, cols] - np.float32(x0), canvas.y[rows] - np.float32(y0)
    angle = np.arctan2(y, x)
    outline = 1.0
    for k in range(2, 7):
        outline = outline + lobes / np.sqrt(k - 1) * rng.normal(0, 0.7) * np.cos(k * angle + rng.uniform(0, 6.28))
    away = (x * x + y * y) / (radius * np.clip(outline, 0.6, 1.45)) ** 2
    return Change(rows, cols, (bulge(away) ** flat * scene.filled(rows, cols, 4.0)).astype(np.float32))


def _fluff(
    scene: Scene,
    radius: float,
    side: int,
    zone: tuple[float, float],
    *,
    grain: float,
    patchy: float,
    at: tuple[float, float] | None = None,
) -> Change:
    """Filled air spaces: a soft blob made irregular by noise of `grain` cm, brighter than its bronchi."""
    canvas, rng = scene.canvas, scene.rng
    x0, y0 = at or scene.spot(radius, side=side, upper=zone[0], lower=zone[1])
    scene.lesion_circles.append((x0, y0, radius))
    stretch = rng.uniform(0.8, 1.25)
    rows, cols = canvas.window(x0 - 2 * radius, y0 - 2 * radius, x0 + 2 * radius, y0 + 2 * radius)
    x, y = canvas.x[:, cols] - np.float32(x0), canvas.y[rows] - np.float32(y0)
    ragged = canvas.noise(rng, grain)[rows, cols] + 0.3 * canvas.noise(rng, 0.4 * grain)[rows, cols]
    away = np.sqrt((x / stretch) ** 2 + (y * stretch) ** 2) / np.float32(radius)
    unit = soft((1.35 - away + 0.45 * patchy * ragged) / 1.05) * soft((1.9 - away) / 0.5)
    unit = unit * (1 + 0.25 * ragged * patchy) * scene.filled(rows, cols, 9.0)
    # Vessels are no longer visible in filled lung; the bronchi beside them, still full of air, do.
    bronchi = np.minimum(scene.vessels[rows, cols] / 0.25, 1)
    return Change(rows, cols, np.clip(unit * (1 - 0.45 * bronchi), 0, None).astype(np.float32), share=0.8)
