"""The layout of NIH ChestX-ray14: a folder of PNG, a table of labels, one of boxes, two official lists."""

from __future__ import annotations

from pathlib import Path

from xrt.runtime.phantoms.files import Row, save_contrasts, save_csv, save_png, without_image
from xrt.runtime.phantoms.records import Phantom
from xrt.runtime.phantoms.render import phantom

# The headers as the NIH wrote them: the brackets hold commas that are not quoted, so a row has eleven fields.
ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"

_TEST_EVERY = 5  # every fifth patient is in the test list


def prepare(out: Path) -> None:
    """Make the folders."""
    (out / "images").mkdir()


def one(index: int, out: Path, seed: int, size: int, contrast: tuple[float, float]) -> Row:
    """Write one image; its name is patient and follow-up number."""
    radiograph = phantom(index, seed=seed, size=size, contrast=contrast)
    name = f"{radiograph.patient_id:08d}_{radiograph.follow_up:03d}.png"
    save_png(out / "images" / name, radiograph.image, seed=seed, index=index)
    return name, without_image(radiograph)


def tables(out: Path, rows: list[Row]) -> None:
    """Write both tables, both lists, and `phantoms.csv` with the contrasts."""
    entries = (_entry(name, radiograph) for name, radiograph in rows)
    save_csv(out / "Data_Entry_2017.csv", ENTRY_HEADER.split(","), entries)
    save_csv(
        out / "BBox_List_2017.csv",
        BOX_HEADER.split(","),
        (
            (name, "Infiltrate" if b.label == "Infiltration" else b.label, *b.box)
            for name, radiograph in rows
            for b in radiograph.lesions
        ),
    )
    save_contrasts(out, rows)
    for file, is_test in (("train_val_list.txt", False), ("test_list.txt", True)):
        names = [name for name, radiograph in rows if (radiograph.patient_id % _TEST_EVERY == 0) == is_test]
        (out / file).write_bytes("".join(f"{name}\n" for name in names).encode())


def _entry(name: str, radiograph: Phantom) -> tuple[object, ...]:
    size = radiograph.image.shape[1]
    return (
        name,
        "|".join(radiograph.labels) or "No Finding",
        radiograph.follow_up,
        radiograph.patient_id,
        radiograph.age,
        radiograph.sex,
        radiograph.view,
        size,
        size,
        radiograph.spacing,
        radiograph.spacing,
    )
