"""COVID-19 Radiography Database (Chowdhury et al., IEEE Access 2020; Rahman et al., Comput. Biol. Med. 2021).

COVID/images/*.png              and lung masks of the same names in COVID/masks/
Lung_Opacity/images/*.png
Normal/images/*.png
Viral Pneumonia/images/*.png    with its space
"""

from __future__ import annotations

from pathlib import Path

from xrt.runtime.datasets.folders import read_folders
from xrt.runtime.datasets.labelled_set import LabelledSet
from xrt.runtime.errors import DataError

LABELS = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")
NOTE = (
    "The classes of the COVID-19 Radiography Database come from different places: COVID from PadChest, a German medical"
    " school and web collections; Lung_Opacity and most of Normal from the RSNA challenge; Viral Pneumonia and the rest"
    " of Normal from a paediatric set (README of the database). A model can distinguish the sources instead of the"
    " diseases, as DeGrave et al. (Nature Machine Intelligence 2021) found with such data, and test figures from the"
    " same sources do not show it."
)


def recognises(path: Path) -> bool:
    """Whether `path` is a folder in this layout; a class or two may have been left away."""
    return sum((path / label / "images").is_dir() for label in LABELS) > 1


def read(path: Path, classes: tuple[str, ...] | None) -> LabelledSet:
    """Read a folder in this layout: exclusive classes, those whose folders are there. Masks are not images.

    Raises DataError for a folder of images that is no class of the database.
    """
    if others := sorted({file.parent.name for file in path.glob("*/images")} - set(LABELS)):
        raise DataError(
            f"{path / others[0]} has images, and is none of {', '.join(LABELS)}; correct its name, or move it elsewhere"
        )
    folders = {label: path / label / "images" for label in LABELS if (path / label / "images").is_dir()}
    name = f"{path.resolve().name} (COVID-19 Radiography layout)"
    return read_folders(name, path, [(label, folder, None) for label, folder in folders.items()], LABELS, (NOTE,))
