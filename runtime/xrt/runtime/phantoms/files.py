"""Files that the layouts share: PNG that says it is synthetic, and tables."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from xrt.runtime.phantoms.records import DESCRIPTION, Phantom

LESION_TABLE = "phantoms.csv"
"""The table of lesions, whatever the layout: it marks a folder as phantoms."""
Row = tuple[str, Phantom]  # a file's stem and its phantom, whose image has been dropped once it is written


def are_phantoms(path: Path) -> bool:
    """Whether a folder or file lies in a data set of phantoms: it, or one of the two folders above, has their table."""
    return any((folder / LESION_TABLE).is_file() for folder in (path, *path.absolute().parents[:2]))


def save_png(path: Path, image: np.ndarray, *, seed: int, index: int) -> None:
    """Write uint8 [H, W] as grey PNG whose text chunks say what it is and how to make it again."""
    info = PngInfo()
    info.add_text("Description", DESCRIPTION)
    info.add_text("Software", "xrt phantoms")
    info.add_text("Seed", str(seed))
    info.add_text("Index", str(index))
    # Level 3: film noise hardly compresses, and higher levels take longer than the phantom itself.
    Image.fromarray(image).save(path, format="PNG", pnginfo=info, compress_level=3)


def save_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; line ends are \\n on every system, so that bytes are the same everywhere."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def save_contrasts(folder: Path, rows: Iterable[Row]) -> None:
    """Write `phantoms.csv`: one row per lesion, with its contrast, which no public layout has."""
    save_csv(
        folder / LESION_TABLE,
        ("image", "label", "x", "y", "width", "height", "contrast"),
        ((stem, b.label, *b.box, b.contrast) for stem, radiograph in rows for b in radiograph.lesions),
    )


def without_image(radiograph: Phantom) -> Phantom:
    """The record alone, so that processes send back bytes by the hundred, not by the million."""
    return replace(radiograph, image=np.empty((0, radiograph.image.shape[1]), np.uint8))
