"""Small data sets written on the fly, in the layouts that `open_dataset` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xrt.runtime.phantoms import write as write_phantoms

_COMMON = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
HEADERS = {
    # As the NIH publishes it: the brackets hold commas that are not quoted.
    "published": _COMMON + "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
    "copied": _COMMON + "OriginalImageWidth,OriginalImageHeight,OriginalImagePixelSpacing_x,Spacing_y",
}
ROWS = (
    ("00000001_000.png", "Cardiomegaly|Effusion", "1", "058", "M", "PA"),
    ("00000001_001.png", "No Finding", "1", "058", "M", "PA"),
    ("00000002_000.png", "Infiltration", "2", "081", "F", "AP"),
    ("00000003_000.png", "Hernia|Infiltration", "3", "005", "F", "PA"),
)


@pytest.fixture
def nih_folder(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a folder in the NIH layout and returns its path.

    Rows are (file, labels, patient, age, sex, view); `header` is a key of `HEADERS` or a line of its own;
    `folders` says which image folder each file goes to.
    """

    def write(
        rows: Sequence[tuple[str, str, str, str, str, str]] = ROWS,
        *,
        header: str = "published",
        folders: Mapping[str, str] | None = None,
        absent: Sequence[str] = (),
        lists: Mapping[str, Sequence[str]] | None = None,
        boxes: str | None = None,
    ) -> Path:
        root = tmp_path / "set"
        root.mkdir()
        lines = [HEADERS.get(header, header)]
        for name, labels, patient, age, sex, view in rows:
            lines.append(f"{name},{labels},0,{patient},{age},{sex},{view},2048,2500,0.168,0.168")
            if name in absent:
                continue
            folder = root / (folders or {}).get(name, "images")
            folder.mkdir(parents=True, exist_ok=True)
            grey = np.full((24, 20), int(patient) * 40, np.uint8)
            Image.fromarray(grey).save(folder / name)
        (root / "Data_Entry_2017.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if boxes is not None:
            (root / "BBox_List_2017.csv").write_text(boxes, encoding="utf-8")
        for file, names in (lists or {}).items():
            (root / file).write_text("\n".join(names), encoding="utf-8")
        return root

    return write


@pytest.fixture
def medmnist_file(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a MedMNIST file of random images; `labels` maps a split to its labels [n, k]."""

    def write(labels: Mapping[str, np.ndarray], *, name: str = "pneumoniamnist.npz", **replaced: np.ndarray) -> Path:
        arrays: dict[str, np.ndarray] = {}
        random = np.random.default_rng(0)
        for split, values in labels.items():
            arrays[f"{split}_images"] = random.integers(0, 256, (len(values), 28, 28), dtype=np.uint8)
            arrays[f"{split}_labels"] = values
        arrays.update(replaced)
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes small grey images at the given relative paths, and returns their root."""

    def write(*names: str, root: str = "set") -> Path:
        folder = tmp_path / root
        for place, name in enumerate(names):
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((12, 10), place, np.uint8)).save(file)
        return folder

    return write


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a CSV file and, beside it, the images that `images` names."""

    def write(text: str | bytes, *, images: Sequence[str] = ("a.png", "b.png", "c.png")) -> Path:
        folder = tmp_path / "own"
        folder.mkdir()
        for place, name in enumerate(images):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((12, 10), place, np.uint8)).save(folder / name)
        file = folder / "list.csv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture(scope="session")
def rsna_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen phantoms in the RSNA layout. Never change them in place: copy them."""
    pytest.importorskip("pydicom")
    folder = tmp_path_factory.mktemp("phantoms") / "rsna"
    write_phantoms(folder, layout="rsna", count=16, seed=1, size=64, workers=0)
    return folder


@pytest.fixture(scope="session")
def covid_phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight phantoms in the layout of the COVID-19 Radiography Database, two a class."""
    folder = tmp_path_factory.mktemp("phantoms") / "covid"
    write_phantoms(folder, layout="covid", count=8, seed=1, size=64, workers=0)
    return folder
