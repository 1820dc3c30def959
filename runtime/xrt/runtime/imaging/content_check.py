"""Does the picture look like an upright chest radiograph? Cheap checks of the decoded image, each with its reason.

What cannot be a radiograph at all, one grey level or a strip, fails. What only looks unlike one becomes a note, or
rejects the image where the bundle or the caller says so. Measured on real radiographs and what is made of them in
docs/reliability.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from xrt.runtime.bundle.manifest import ContentCheck, Reaction
from xrt.runtime.errors import NotAChestRadiograph, UnreadableImage
from xrt.runtime.imaging.chest_template import CHEST_TEMPLATE

MIN_SIDE = 16
MOST_ELONGATED = 4.0
_ELONGATED = 2.0
"""Free: chest radiographs are 0.7 to 1.5 times as wide as high, those of infants with abdomen up to 2 times as high."""
_LEAST_CONTRAST = 4
"""Grey levels between the darkest and the brightest half percent of the pixels."""
_BLOCK = 8
_FLAT, _WHITE, _BLACK = 0.15, 0.25, 0.6
"""Shares of flat blocks of one inner level, of white and of black; of real radiographs, as JPEG of quality 30 too, the
highest are 0.11, 0.01 and 0.23."""
_INVERTED, _TURNED = -0.1, 0.1
"""Of 46 real radiographs of adults the least correlation is 0.25, of 2,856 of children 0.03 (1st percentile 0.30); the
least by which upright is better than any turn is 0.23, and at the 1st percentile of the children 0.04."""


def require_picture(pixels: UInt8[np.ndarray, "h w"]) -> None:
    """Raise UnreadableImage for what can be no radiograph: too small, a strip, or without contrast."""
    height, width = pixels.shape
    if min(height, width) < MIN_SIDE:
        raise UnreadableImage(f"{width} × {height} pixels; a radiograph has at least {MIN_SIDE} per side")
    if max(height, width) > MOST_ELONGATED * min(height, width):
        raise UnreadableImage(f"{width} × {height} pixels: a strip, no radiograph")
    counts = np.bincount(_thinned(pixels).ravel(), minlength=256).cumsum()
    low, high = np.searchsorted(counts, (0.005 * counts[-1], 0.995 * counts[-1]))
    if high - low < _LEAST_CONTRAST:
        raise UnreadableImage("the image has nearly one grey level alone")


def check_content(pixels: UInt8[np.ndarray, "h w"], reactions: Mapping[ContentCheck, Reaction] = {}) -> tuple[str, ...]:
    """Notes on a picture that looks unlike an upright chest radiograph.

    `reactions` says what a check does where it strikes, by default `note`. Raises NotAChestRadiograph where that is
    `reject`.
    """
    return tuple(note for check, text in _findings(pixels) if (note := react(check, text, reactions)))


def react(check: ContentCheck, note: str, reactions: Mapping[ContentCheck, Reaction]) -> str:
    """The note of a check that struck, empty where it is off. Raises NotAChestRadiograph where it rejects."""
    reaction = reactions.get(check, "note")
    if reaction == "reject":
        raise NotAChestRadiograph(note)
    return note if reaction == "note" else ""


def _findings(pixels: UInt8[np.ndarray, "h w"]) -> Iterator[tuple[ContentCheck, str]]:
    height, width = pixels.shape
    if max(height, width) > _ELONGATED * min(height, width):
        yield "aspect", "much longer than wide, or wider than long"
    if _has_large_flat_areas(pixels):
        yield "flat", "large areas of one grey level: a screenshot, a drawing or a scanned page?"
    by_turn = _likeness(pixels)
    if by_turn[0] < _INVERTED and -by_turn[0] >= by_turn.max():
        yield "inverted", "bright and dark seem exchanged"
    elif by_turn[1:].max() > by_turn[0] + _TURNED:
        turn = 90 * (1 + int(by_turn[1:].argmax()))
        yield "turned", f"the image seems to be turned by {turn}°"


def _has_large_flat_areas(pixels: UInt8[np.ndarray, "h w"]) -> bool:
    rows, columns = pixels.shape[0] // _BLOCK, pixels.shape[1] // _BLOCK
    if rows * columns < 64:
        return False
    blocks = pixels[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK)
    # Nearly every block differs within its first row: only the others are looked at whole.
    first = blocks[:, 0]
    flat = (first == first[..., :1]).all(axis=2)
    at = np.nonzero(flat)
    whole = blocks[at[0], :, at[1]]
    levels = whole[(whole == whole[:, :1, :1]).all(axis=(1, 2)), 0, 0]
    share = np.bincount(levels, minlength=256) / (rows * columns)
    darkest, brightest = int(pixels.min()), int(pixels.max())
    inner = share.copy()
    inner[[darkest, brightest]] = 0
    return bool(inner.max() > _FLAT or share[brightest] > _WHITE or share[darkest] > _BLACK)


def _likeness(pixels: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, 4]:
    """Rank correlation with a chest, and with one turned by 90°, 180° and 270° clockwise."""
    side = CHEST_TEMPLATE.shape[0]
    image = Image.fromarray(pixels)
    small = np.asarray(image.resize((side, side), Image.Resampling.BOX, reducing_gap=1.0), dtype=np.float64)
    ranks = small.ravel().argsort(kind="stable").argsort(kind="stable").astype(np.float64)
    ranks -= ranks.mean()
    turned = np.stack([np.rot90(CHEST_TEMPLATE, -turn).ravel() for turn in range(4)])
    return turned @ ranks / (np.linalg.norm(turned[0]) * np.linalg.norm(ranks))


def _thinned(pixels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "rows columns"]:
    """Every so many-th row and column, about half a million pixels at most."""
    step = max(1, int((pixels.size / 500_000) ** 0.5))
    return pixels[::step, ::step]
