"""Soft tissue and air: how much water and how much lung the beam crosses at each point of the grid.

All shapes are solids with a known chord, so their sums are line integrals (cm), and silhouettes come out as
they do in a radiograph: a border is seen where, and only where, tissue touches air.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xrt.runtime.phantoms.canvas import Canvas, bulge, soft
from xrt.runtime.phantoms.patient import Anatomy, Exposure


@dataclass(frozen=True)
class Thorax:
    """Path lengths [n, n] in cm, and the outlines that bones and lesions refer to."""

    body: np.ndarray  # everything inside the skin
    air: np.ndarray  # lung, which is partly tissue
    gas: np.ndarray  # trachea, bronchi, gastric bubble
    wall: np.ndarray  # [n]: half width of the thoracic cavity at each row
    domes: np.ndarray  # [n]: y of the diaphragm at each column
    room: np.ndarray  # [n, n] cm: what the lung would fill if there were no heart; negative in the mediastinum

    def wall_at(self, canvas: Canvas, y: float) -> float:
        """Half width of the cavity at a height of y cm."""
        return float(self.wall[canvas.row(y)])


def build(body: Anatomy, shot: Exposure, canvas: Canvas) -> Thorax:
    """Sum up a patient's soft tissue and air for one positioning, with a heart of healthy size."""
    x, y = canvas.x, canvas.y
    wall = outline(body, y[:, 0])
    domes = _domes(body, shot, x[0])
    middle = x - np.float32(shot.rotation)  # the mediastinum, shifted where the patient is turned

    depth = body.depth * (0.42 + 0.58 * soft((y + 0.5) / 11.0))
    cavity = 2 * depth * np.sqrt(np.clip(1 - np.abs(x / np.maximum(wall[:, None], 0.3)) ** 2.7, 0, None))
    cavity = np.where(y < 0, 0, cavity)
    below = np.maximum(y - domes[None, :], 0)
    # The lung goes on behind the dome, ever thinner, in the posterior recess.
    recess = (1 - 0.88 * np.sqrt(np.minimum(below / 1.8, 1))) * np.clip(1 - below / 5.5, 0, 1)
    room = cavity * recess - _mediastinum(body, canvas, middle)
    # A portable AP image, taken from near, magnifies the heart in front of the chest.
    ratio = body.heart + (0.018 if shot.view == "AP" else 0.0)
    heart, _ = heart_shadow(body, shot, canvas, wall, domes, ratio)
    return Thorax(
        body=_trunk(body, shot, canvas, wall),
        air=np.maximum(room - heart, 0),
        gas=_airways(body, canvas, middle, domes),
        wall=wall,
        domes=domes,
        room=room,
    )


def outline(body: Anatomy, y: np.ndarray) -> np.ndarray:
    """Half width of the thoracic cavity (cm) at heights y: a superellipse above the widest level."""
    widest = 0.83 * body.dome
    rise = np.clip(1 - y / widest, 0, 1)
    half = body.width * np.clip(1 - rise**body.shape, 0, 1) ** (1 / body.shape)
    return np.where(y > widest, body.width * (1 - 0.0022 * (y - widest) ** 2), half).astype(np.float32)


def _domes(body: Anatomy, shot: Exposure, x: np.ndarray) -> np.ndarray:
    top = body.dome - shot.expiration + np.where(x < 0, 0.0, 1.1)  # the liver holds the right one higher
    crest = 0.45 * body.width
    side = np.abs(x)
    lateral = np.clip((side - crest) / (body.width - crest), 0, None) ** 2.3
    medial = np.clip((crest - side) / crest, 0, 1) ** 2
    return (top + 3.9 * lateral + 1.1 * medial).astype(np.float32)


def heart_shadow(
    body: Anatomy, shot: Exposure, canvas: Canvas, wall: np.ndarray, domes: np.ndarray, ratio: float
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Chord of the heart [n, n] in cm, and the box x0, y0, x1, y1 of its silhouette in cm.

    Left ventricle and right atrium are two ellipsoids whose outer borders give the ratio asked for.
    """
    x, y = canvas.x, canvas.y
    width = ratio * 2 * float(wall.max())
    # A heart that grows does so mostly to the left.
    right = shot.rotation - (body.heart_right - 0.2 * max(ratio - 0.46, 0)) * width
    left = right + width
    floor = float(domes[canvas.column(4.0)])
    # The ventricle: long axis down to the viewer's right; its extent follows from the half axes and the tilt.
    c, s = np.cos(body.heart_tilt), np.sin(body.heart_tilt)
    reach = min(0.80 * (left - shot.rotation), 0.48 * width)
    b = reach / np.sqrt((1.55 * c) ** 2 + s**2)
    a = 1.55 * b
    tall = np.sqrt((a * s) ** 2 + (b * c) ** 2)
    cx, cy = left - reach, floor + 0.9 - 0.80 * tall
    u, v = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
    ventricle = np.clip(1 - np.abs(u / a) ** 2.2 - np.abs(v / b) ** 2.2, 0, None)
    half = 0.70 * (shot.rotation - right) + 1.6
    ab = 6.6 * (0.75 + 0.25 * ratio / 0.44)
    ay = floor + 0.6 - 0.84 * ab
    atrium = np.clip(1 - ((x - right - half) / half) ** 2 - ((y - ay) / ab) ** 2, 0, None)
    box = (right, float(min(cy - 0.9 * tall, ay - 0.8 * ab)), left, float(min(cy + tall, floor + 1.5)))
    # A heart lies in front; lung behind it is still crossed at its edge, so the silhouette has a slope.
    chord = 2.1 * body.depth * np.sqrt(np.sqrt(ventricle * ventricle + atrium * atrium))
    return chord, box


def _mediastinum(body: Anatomy, canvas: Canvas, x: np.ndarray) -> np.ndarray:
    """Tissue (cm) between the lungs above the heart; one solid for each border that a reader names."""
    y = canvas.y
    deep = 2 * body.depth
    # The column of spine, oesophagus and great vessels, wider towards neck and heart, a little wavy between.
    column = bulge((x / (2.15 + 0.55 * soft((3 - y) / 6) + 0.9 * soft((y - 8) / 7))) ** 2)
    cava = bulge(((x + 1.6 + 0.06 * (y - 5)) / 1.6) ** 2) * soft((y + 1) / 3) * soft((19 - y) / 6)
    knob = bulge(((x - 1.7) / (body.knob + 0.3)) ** 2 + ((y - 6.4) / (body.knob + 0.5)) ** 2)
    aorta = bulge(((x - 1.5) / 1.4) ** 2) * soft((y - 6) / 2)
    trunk = bulge(((x - 1.2) / 3.1) ** 2 + ((y - 11.3) / 3.6) ** 2)
    right_hilum = bulge(((x + 3.4) / 1.5) ** 2 + ((y - 11.3) / 2.6) ** 2)
    left_hilum = bulge(((x - 3.6) / 1.5) ** 2 + ((y - 10.0) / 2.1) ** 2)
    subclavian = bulge(((np.abs(x) - 1.9) / 1.6) ** 2) * soft((6 - y) / 4)
    vessels = 6.5 * cava + 9 * knob + 2.5 * aorta + 7.5 * trunk + 3.0 * (right_hilum + left_hilum)
    return 0.85 * deep * column + vessels + 0.25 * deep * subclavian


def _airways(body: Anatomy, canvas: Canvas, x: np.ndarray, domes: np.ndarray) -> np.ndarray:
    y = canvas.y
    carina = 8.0
    gas = 2.3 * bulge(((x + 0.15 * soft(y / 8)) / 0.85) ** 2) * soft((carina + 0.6 - y) / 0.8)
    along = y - carina + 0.4
    span = soft(along / 0.8) * soft((3.2 - along) / 1.2)
    gas = gas + 1.1 * span * bulge(((x + 0.25 + 0.62 * along) / 0.75) ** 2)
    gas = gas + 1.0 * span * bulge(((x - 0.25 - 0.95 * along) / 0.8) ** 2)
    bx, by, radius = body.bubble
    if radius > 0:
        top = float(domes[canvas.column(bx)]) + by
        # A bubble floats under the dome: its lower half is a fluid level.
        rise = bulge(((canvas.x - bx) / (1.7 * radius)) ** 2 + ((y - top) / radius) ** 2)
        gas = gas + 3.5 * radius * rise * soft((top + 0.35 * radius - y) / 0.3)
    return gas.astype(np.float32)


def _trunk(body: Anatomy, shot: Exposure, canvas: Canvas, wall: np.ndarray) -> np.ndarray:
    """Thickness inside the skin: trunk, shoulders, neck, arms; the thickest wins. Breasts are added."""
    x, y = canvas.x, canvas.y
    side = np.abs(x)
    flank = np.maximum(body.width + body.wall + 0.6 - 2.2 * soft((12 - y) / 14), wall[:, None] + body.wall)
    deep = 2 * (body.depth + 0.75 * body.wall) * (0.62 + 0.38 * soft((y + 1) / 12))
    contour = body.shoulder - 1.0 + 3.0 * soft((side - 12) / 9) ** 2 - 6.0 * (1 - soft((side - 4.2) / 8.5))
    under = np.clip((y - contour) / 3.8, 0, 1)
    trunk = deep * np.sqrt(np.clip(1 - (side / flank) ** 4.5, 0, None)) * np.sqrt(under)
    girdle = (12.5 + 0.9 * body.wall) * np.sqrt(np.minimum(under * 1.6, 1)) * soft((23.0 - side) / 3.0)
    girdle = girdle * soft((17.0 - y) / 13.0)
    neck = 11.5 * bulge((x / (5.0 + 0.3 * body.wall)) ** 2) * soft((3 - y) / 4)
    axis = body.width + body.wall + 2.6 + shot.arms + 0.16 * (y - 3)
    arm = 9.0 * bulge(((side - axis) / (3.4 + 0.4 * body.wall)) ** 2) * soft((y - 1) / 4)
    lying = bulge(((side - 0.56 * body.width) / 6.2) ** 2 + ((y - body.breast_y) / 5.4) ** 2)
    breast = body.breast * lying * (1 - 0.4 * soft((body.breast_y - y) / 5))
    pectoral = 1.1 * soft((12.5 - y) / 5) * soft((y - 2) / 4) * soft((side - 3) / 3) * soft((16 - side) / 3)
    return np.maximum(np.maximum(trunk, girdle), np.maximum(neck, arm)) + breast + pectoral
