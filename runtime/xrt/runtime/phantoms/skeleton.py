"""Bones: ribs, clavicles, spine, scapulae and humeri, as excess path of mineral (relative, about 0..2)."""

from __future__ import annotations

import numpy as np

from xrt.runtime.phantoms.canvas import Canvas, Layer
from xrt.runtime.phantoms.patient import Anatomy, Exposure
from xrt.runtime.phantoms.thorax import Thorax, outline

_RIBS = 11


def build(body: Anatomy, shot: Exposure, canvas: Canvas, chest: Thorax) -> np.ndarray:
    """Log attenuation of all bones above the tissue they replace, float32 [n, n]."""
    posterior, anterior = canvas.layer(), canvas.layer()
    for side in (-1, 1):
        for k in range(_RIBS):
            _rib(posterior, anterior, body, k, side)
    tangent = np.minimum(np.abs(canvas.x) / np.maximum(chest.wall[:, None], 1.0), 1.05) ** 8
    ribs = (
        (0.26 * posterior.array() + 0.19 * anterior.array())
        * (1 + 0.45 * tangent)
        * (0.5 + 0.5 * np.minimum(chest.air / 6 + tangent, 1))
    )
    girdle = canvas.layer()
    for side in (-1, 1):
        _scapula(girdle, body, shot, side)
        _clavicle(girdle, body, shot, side)
    return body.bone * (ribs + 0.38 * girdle.array() + 0.24 * _spine(body, shot, canvas))


def rib_line(body: Anatomy, k: int, side: int, start: float, end: float, points: int) -> np.ndarray:
    """Centre line of rib k (0 the first) on one side, [points, 2] in cm, between two angles.

    A rib is nearly a tilted ellipse around the chest; seen from the front the angle runs from the spine (0)
    over the flank (π/2) to the sternum (π), and the tilt carries it down.
    """
    angle = np.linspace(start, end, points)
    y = 0.1 + body.pitch * k * (1 + 0.012 * k)
    drop = body.tilt * min(5.0 + 1.15 * k, 12.5)
    flank = float(outline(body, np.array([max(y + 0.5 * drop, 1.5)]))[0]) + 0.35
    reach = min(flank, 6.3 + 1.9 * k) if k < 3 else flank
    curve = np.sin(angle) ** 0.92
    # First a little upwards, as the neck of a rib goes, then down in front of the flank.
    fall = 0.5 * drop * (1 - np.cos(angle)) - 0.55 * np.sin(2 * angle) * (angle < np.pi / 2)
    return np.stack([side * (1.4 + (reach - 1.4) * curve), y + fall], axis=1)


def _rib(posterior: Layer, anterior: Layer, body: Anatomy, k: int, side: int) -> None:
    width = 0.78 + 0.05 * min(k, 6)
    back = rib_line(body, k, side, 0.10, np.pi / 2, 22)
    _band(posterior, back, np.linspace(0.9, 1.0, 22) * width, 0.52, 1.0)
    if k > 8:  # the last ribs do not reach the front
        return
    front = rib_line(body, k, side, np.pi / 2, 2.5 - 0.16 * max(k - 5, 0), 18)
    _band(anterior, front, np.linspace(1.0, 1.3, 18) * width, 0.7, 1.0)


def _band(layer: Layer, line: np.ndarray, width: np.ndarray, inside: float, edge: float) -> None:
    """A flat bone along a line: spongy inside, dense cortex on both edges."""
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
    upper, lower = line - 0.5 * width[:, None] * normal, line + 0.5 * width[:, None] * normal
    layer.polygon(np.concatenate([upper, lower[::-1]]), inside)
    for border in (upper, lower):
        layer.line(border, 0.14, edge)


def _clavicle(layer: Layer, body: Anatomy, shot: Exposure, side: int) -> None:
    t = np.linspace(0, 1, 20)
    lift = 0.4 * shot.expiration  # lying, the shoulders ride up
    x = side * (1.9 + (body.width - 0.2) * t) + shot.rotation
    rise = (body.clavicle - body.shoulder + 0.2) * t**0.8 + 0.75 * np.sin(2 * np.pi * t)
    line = np.stack([x, body.clavicle - 0.6 * lift - rise], axis=1)
    _band(layer, line, 0.85 + 0.6 * (1 - t) ** 3 + 0.3 * t**2, 0.45, 0.85)


def _scapula(layer: Layer, body: Anatomy, shot: Exposure, side: int) -> None:
    x, y = body.width + 0.3 + 0.45 * shot.arms, body.shoulder + 4.0
    blade = np.array([[x - 0.3, y - 2], [x - 1.6, y + 3], [x - 0.6, y + 9.5], [x + 0.8, y + 9], [x + 2.6, y]])
    layer.polygon(blade * (side, 1), 0.16)
    layer.line(blade[:3] * (side, 1), 0.18, 0.34)
    layer.line(blade[2:] * (side, 1), 0.45, 0.42)
    joint = body.width + 4.3
    shaft = np.array(
        [[joint + 0.2, y - 0.6], [joint + 1.6 + 0.5 * shot.arms, y + 6], [joint + 3.2 + shot.arms, y + 18]]
    )
    _band(layer, shaft * (side, 1), np.array([2.6, 2.1, 2.0]), 0.42, 0.8)
    layer.ellipse(side * joint, y - 0.8, 2.25, 2.2, 0.5)
    layer.line(np.array([[x + 1.9, y - 2.1], [x + 2.2, y], [x + 1.7, y + 1.7]]) * (side, 1), 0.35, 0.6)
    layer.line(np.array([[x - 0.8, y - 0.4], [x + 2.0, y - 2.4], [x + 4.4, y - 3.5]]) * (side, 1), 0.7, 0.42)


def _spine(body: Anatomy, shot: Exposure, canvas: Canvas) -> np.ndarray:
    layer = canvas.layer()
    shift = 0.6 * shot.rotation
    y, height = -9.0, 1.75
    while y < 36:
        half = 1.35 + 0.022 * (y + 9)
        x0, x1 = shift - half, shift + half
        low, waist = y + height, y + 0.5 * height
        corners = [[x0, y], [x1, y], [x1 - 0.12, waist], [x1, low], [x0, low], [x0 + 0.12, waist]]
        layer.polygon(np.array(corners), 0.62)
        for end in (y, y + height):
            layer.line(np.array([[x0, end], [x1, end]]), 0.14, 0.8)
        for side in (-1, 1):
            layer.ellipse(shift + side * 0.68 * half, y + 0.38 * height, 0.32, 0.45, 0.95)
            transverse = np.array([[shift + side * half, y + 0.4 * height], [shift + side * (half + 1.3), y + 0.3]])
            layer.line(transverse, 0.6, 0.42)
        layer.ellipse(shift + 0.4 * shot.rotation, y + 0.75 * height, 0.22, 0.55, 0.95)
        y += height + 0.32 + 0.004 * (y + 9)
        height = min(height + 0.045, 2.6)
    return layer.array()
