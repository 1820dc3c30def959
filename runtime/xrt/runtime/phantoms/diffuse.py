"""Lesions of the pleura, the heart and the whole lung: effusion, pneumothorax, cardiomegaly, infiltration."""

from __future__ import annotations

import numpy as np

from xrt.runtime.phantoms.canvas import soft
from xrt.runtime.phantoms.records import DEFAULT_CONTRAST
from xrt.runtime.phantoms.scene import WATER, Change, Scene
from xrt.runtime.phantoms.thorax import heart_shadow


def _half(scene: Scene, side: int) -> tuple[slice, slice]:
    """The window of one hemithorax, down to under the costophrenic angle."""
    reach = scene.body.width + 0.8
    x0, x1 = (-reach, -0.5) if side < 0 else (0.5, reach)
    return scene.canvas.window(x0, -0.5, x1, scene.body.dome + 7.5)


def _side(scene: Scene) -> int:
    """A hemithorax without pleural lesion, if there is one; it then counts as taken (marked at x = ±100)."""
    side = int(scene.rng.choice((-1, 1)))
    if any(x == 100.0 * side for x, _, _ in scene.lesion_circles):
        side = -side
    scene.lesion_circles.append((100.0 * side, 0.0, 0.0))
    return side


def effusion(scene: Scene, strength: float) -> list[Change]:
    """Fluid over a dome: it blunts the costophrenic angle and climbs the chest wall in a meniscus."""
    rng, canvas = scene.rng, scene.canvas
    side = _side(scene)
    rows, cols = _half(scene, side)
    x, y = np.abs(canvas.x[:, cols]), canvas.y[rows]
    wall = scene.chest.wall[rows][:, None]
    base = scene.body.dome - scene.shot.expiration + (1.1 if side > 0 else 0.0)
    level = base + 0.6 - 7.5 * rng.beta(1.2, 2.0)  # from just over the angle to half the lung
    meniscus = rng.uniform(2.5, 4.5) * np.exp(-np.maximum(wall - x, 0) / rng.uniform(1.2, 2.2))
    surface = level - meniscus + 0.8 * soft((6 - x) / 5) - 0.8 * soft((4.5 - x) / 2.5)
    depth = soft((y - surface) / 1.6) * (0.8 + 0.2 * soft((y - surface) / 5))
    inside = soft((wall - x) / 0.25) * soft((x - 2.2) / 0.8)
    # The recess that the fluid fills ends where the diaphragm meets the wall.
    floor = np.minimum(scene.chest.domes[None, cols] + 3.5, base + 5.2)
    unit = depth * inside * soft((floor - y) / 1.5) * (0.25 + 0.75 * scene.filled(rows, cols, 2.5))
    scene.lesion_circles.append((side * 0.75 * scene.body.width, base, 2.5))
    return [Change(rows, cols, unit.astype(np.float32), -0.8 * unit * scene.vessels[rows, cols])]


def pneumothorax(scene: Scene, strength: float) -> list[Change]:
    """Air between chest wall and a retracted lung: a dark crescent without vessels, a thin pleural line."""
    rng, canvas = scene.rng, scene.canvas
    side = _side(scene)
    rows, cols = _half(scene, side)
    x, y = np.abs(canvas.x[:, cols]), canvas.y[rows]
    drop, inward = rng.uniform(2.0, 5.5), rng.uniform(1.0, 3.2)
    end = rng.uniform(0.6, 0.98) * scene.body.dome
    fade = 1 - soft((y - 0.45 * end) / (0.55 * end))
    # The pleura is the cavity's own outline, moved down at the apex and in at the side.
    lowered = np.interp(y[:, 0] - drop * fade[:, 0], canvas.y[:, 0], scene.chest.wall)[:, None]
    pleura = np.minimum(lowered, scene.chest.wall[rows][:, None]) - inward * fade
    gap = x - np.maximum(pleura, 0)  # positive outside the lung
    wall = scene.chest.wall[rows][:, None]
    crescent = soft(gap / 0.15 + 0.5) * soft((end + 0.5 - y) / 1.5) * scene.filled(rows, cols, 3.0) * (x < wall)
    # Where the outline is steep the line would smear over many rows: measure across it, not along x.
    steep = np.sqrt(1 + np.gradient(pleura[:, 0], canvas.step)[:, None] ** 2)
    thin = max(0.09, 0.7 * canvas.step)
    line = np.exp(-((gap / steep / thin) ** 2)) * (pleura > 2.6) * soft((end - y) / 1.5) * scene.filled(rows, cols, 3.0)
    line = line * soft((wall - pleura) / 0.5)
    unit = (-crescent + 1.5 * line).astype(np.float32)
    scene.lesion_circles.append((side * 7.0, 3.5, 4.0))
    return [Change(rows, cols, unit, -crescent * scene.vessels[rows, cols])]


def cardiomegaly(scene: Scene, strength: float) -> list[Change]:
    """A heart wider than half the chest: cardiothoracic ratio 0.53 to 0.63 over the default contrasts.

    It is the one lesion whose box is anatomical (around the heart), as in the NIH data set.
    """
    low, high = np.log(DEFAULT_CONTRAST)
    share = float(np.clip((np.log(strength) - low) / (high - low), 0, 1))
    chest = scene.chest
    ratio = 0.53 + 0.10 * share
    heart, box = heart_shadow(scene.body, scene.shot, scene.canvas, chest.wall, chest.domes, ratio)
    rows, cols = scene.canvas.window(box[0] - 1, box[1] - 4, box[2] + 1, box[3] + 2)
    air = np.maximum(chest.room[rows, cols] - heart[rows, cols], 0)
    lost = np.maximum(chest.air[rows, cols] - air, 0)
    vessels = scene.vessels[rows, cols] * (1 - np.minimum(air / np.maximum(chest.air[rows, cols], 0.1), 1))
    # What is placed after the heart finds the lung that the heart has left.
    chest.air[rows, cols] = air
    scene.vessels[rows, cols] -= vessels
    return [Change(rows, cols, None, WATER * (1 - scene.body.inflation) * lost - 0.7 * vessels, box=box)]


def infiltration(scene: Scene, strength: float) -> list[Change]:
    """Ill-defined streaks and net in the lower two thirds of one lung, fanning out with the vessels."""
    side = int(scene.rng.choice((-1, 1)))
    return [_net(scene, side, scene.rng.uniform(0.35, 0.7))]


def interstitial(scene: Scene, strength: float) -> list[Change]:
    """The same net in both lungs, densest around the hila, as in viral pneumonia: for the COVID layout."""
    return [_net(scene, side, 0.5) for side in (-1, 1)]


def _net(scene: Scene, side: int, height: float) -> Change:
    rng, canvas = scene.rng, scene.canvas
    rows, cols = _half(scene, side)
    x, y = canvas.x[:, cols], canvas.y[rows]
    x0, y0 = side * 0.45 * scene.body.width, height * scene.body.dome
    away = ((x - x0) / (0.42 * scene.body.width)) ** 2 + ((y - y0) / 5.5) ** 2
    # Ridges of noise (where it crosses zero) look like thickened septa; two sizes of them make a net.
    coarse, fine = canvas.noise(rng, 1.0)[rows, cols], canvas.noise(rng, 0.55)[rows, cols]
    net = 0.7 * np.exp(-((coarse / 0.25) ** 2)) + np.exp(-((fine / 0.3) ** 2))
    veil = 0.5 + 0.35 * canvas.noise(rng, 2.0)[rows, cols]
    unit = np.clip(0.45 * net + veil, 0, None) * np.exp(-(away**1.5)) * scene.filled(rows, cols, 9.0)
    return Change(rows, cols, unit.astype(np.float32), share=0.35)  # septa thicken, air spaces stay open
