"""Sheets of captioned images: rows of tiles under a title, with a key of colours and a note below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import UInt8
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from xrt.benchmarks.explanation.palette import Colour
from xrt.runtime._io import png_bytes
from xrt.runtime.heatmaps.overlay import colour

_GAP, _TEXT, _TITLE = 8, 13, 17  # pixels
_INK, _PAPER = (25, 25, 25), (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """An image, grey or RGB, and the lines under it."""

    image: UInt8[np.ndarray, "h w *rgb"]
    caption: tuple[str, ...]


@dataclass(frozen=True)
class Sheet:
    """Rows of tiles `side` pixels wide.

    `bar` names the two ends of the heat's colours, `key` the colours of classes; both are drawn if given.
    """

    title: str
    rows: Sequence[Sequence[Tile]]
    note: str = ""
    side: int = 224
    bar: tuple[str, str] | None = None
    key: Sequence[tuple[Colour, str]] = ()

    def png(self) -> bytes:
        """The sheet as a PNG file."""
        width = max(max(len(row) for row in self.rows) * (self.side + _GAP) + _GAP, 420)
        parts = [_text(self.title, width, _TITLE)]
        parts += [self._row(row, width) for row in self.rows]
        if self.bar is not None:
            parts.append(_bar(self.bar, width))
        parts += [_entry(swatch, name, width) for swatch, name in self.key]
        if self.note:
            parts.append(_text(self.note, width, _TEXT))
        page = Image.new("RGB", (width, sum(part.height for part in parts)), _PAPER)
        top = 0
        for part in parts:
            page.paste(part, (0, top))
            top += part.height
        return png_bytes(page)

    def _row(self, row: Sequence[Tile], width: int) -> Image.Image:
        font = _font(_TEXT)
        captions = [[line for text in tile.caption for line in _wrap(text, font, self.side)] for tile in row]
        images = [_fitted(tile.image, self.side) for tile in row]
        tallest = max(image.height for image in images)
        lines = max(map(len, captions))
        strip = Image.new("RGB", (width, tallest + lines * _line(_TEXT) + 2 * _GAP), _PAPER)
        draw = ImageDraw.Draw(strip)
        for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
            left = _GAP + i * (self.side + _GAP)
            strip.paste(image, (left + (self.side - image.width) // 2, _GAP // 2))
            for j, line in enumerate(caption):
                draw.text((left, tallest + _GAP + j * _line(_TEXT)), line, _INK, font)
        return strip


def rows_of(tiles: Sequence[Tile], columns: int) -> list[list[Tile]]:
    """Tiles in rows of `columns`."""
    return [list(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]


def _fitted(pixels: UInt8[np.ndarray, "h w *rgb"], side: int) -> Image.Image:
    """The image with its long side at `side`, small ones enlarged, so that all are of similar size."""
    image = Image.fromarray(pixels).convert("RGB")
    factor = side / max(image.size)
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


def _text(text: str, width: int, size: int) -> Image.Image:
    font = _font(size)
    lines = _wrap(text, font, width - 2 * _GAP)
    strip = Image.new("RGB", (width, len(lines) * _line(size) + _GAP), _PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(strip).text((_GAP, _GAP // 2 + i * _line(size)), line, _INK, font)
    return strip


def _bar(ends: tuple[str, str], width: int) -> Image.Image:
    font, length = _font(_TEXT), 160
    strip = Image.new("RGB", (width, _line(_TEXT) + _GAP), _PAPER)
    draw = ImageDraw.Draw(strip)
    start = _GAP + round(font.getlength(ends[0])) + _GAP
    heat = np.tile(np.linspace(0, 1, length), (_TEXT, 1))
    # On a middle grey, and as transparent as on a radiograph.
    blended = 90 * (1 - 0.6 * heat[..., None]) + colour(heat) * 0.6 * heat[..., None]
    strip.paste(Image.fromarray(blended.astype(np.uint8)), (start, _GAP // 2 + 2))
    draw.text((_GAP, _GAP // 2), ends[0], _INK, font)
    draw.text((start + length + _GAP, _GAP // 2), ends[1], _INK, font)
    return strip


def _entry(swatch: Colour, name: str, width: int) -> Image.Image:
    strip = Image.new("RGB", (width, _line(_TEXT) + 2), _PAPER)
    draw = ImageDraw.Draw(strip)
    draw.rectangle((_GAP, 3, _GAP + 22, 3 + _TEXT), fill=swatch, outline=_INK)
    draw.text((_GAP + 30, 1), name, _INK, _font(_TEXT))
    return strip


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines no wider than `width`; words that are, such as file names, are broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".strip()
        if font.getlength(joined) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines


def _line(size: int) -> int:
    return round(size * 1.35)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib's own, which has Greek letters and is there on every system.
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans")), size)
