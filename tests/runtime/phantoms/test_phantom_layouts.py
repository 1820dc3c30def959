"""Written folders: real headers, disjoint patients, files that say what they are, the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xrt.runtime.errors import MissingDependency, UsageError
from xrt.runtime.phantoms import DESCRIPTION, phantom, write
from xrt.runtime.progress import Progress

COUNT, SIZE = 24, 96


def _table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def _hashes(folder: Path) -> dict[str, str]:
    files = (p for p in sorted(folder.rglob("*")) if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def nih(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("layouts") / "nih"
    write(out, layout="nih", count=COUNT, seed=4, size=SIZE, workers=1)
    return out


@pytest.fixture(scope="module")
def rsna(tmp_path_factory) -> Path:
    pytest.importorskip("pydicom")
    out = tmp_path_factory.mktemp("layouts") / "rsna"
    write(out, layout="rsna", count=COUNT, seed=4, size=SIZE, workers=1)
    return out


def test_nih_headers_are_the_real_ones(nih):
    entry, boxes = (nih / "Data_Entry_2017.csv").read_text(), (nih / "BBox_List_2017.csv").read_text()
    assert entry.splitlines()[0] == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    assert boxes.splitlines()[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    assert all(len(row) == 11 for row in _table(nih / "Data_Entry_2017.csv"))


def test_nih_tables_say_what_the_phantoms_are(nih):
    rows = _table(nih / "Data_Entry_2017.csv")[1:]
    boxes = _table(nih / "BBox_List_2017.csv")[1:]
    assert len(rows) == COUNT
    for index, row in enumerate(rows):
        radiograph = phantom(index, seed=4, size=SIZE)
        assert row[0] == f"{radiograph.patient_id:08d}_{radiograph.follow_up:03d}.png"
        assert row[1] == ("|".join(radiograph.labels) or "No Finding")
        p = radiograph
        assert row[2:9] == [str(v) for v in (p.follow_up, p.patient_id, p.age, p.sex, p.view, SIZE, SIZE)]
        names = [[b[1].replace("Infiltrate", "Infiltration"), *map(float, b[2:6])] for b in boxes if b[0] == row[0]]
        assert names == [[b.label, *b.box] for b in radiograph.lesions]
        assert np.array_equal(np.asarray(Image.open(nih / "images" / row[0])), radiograph.image)
    contrasts = _table(nih / "phantoms.csv")
    assert contrasts[0] == ["image", "label", "x", "y", "width", "height", "contrast"]
    assert len(contrasts) - 1 == len(boxes)


def test_nih_lists_share_no_patient_and_miss_no_image(nih):
    lists = [(nih / f"{name}_list.txt").read_text().split() for name in ("train_val", "test")]
    patients = [{name[:8] for name in names} for names in lists]
    assert not patients[0] & patients[1]
    assert sorted(lists[0] + lists[1]) == sorted(p.name for p in (nih / "images").iterdir())
    assert 0 < len(lists[1]) < COUNT / 2


def test_png_says_synthetic_in_header_and_image(nih):
    for path in (nih / "images").iterdir():
        image = Image.open(path)
        assert image.mode == "L"
        assert image.text["Description"] == DESCRIPTION == "synthetic phantom, not a patient"
        assert image.text["Software"] == "xrt phantoms"
        assert image.text["Seed"] == "4"
    assert "synthetic phantom, not a patient" in (nih / "README.txt").read_text().lower()


def test_the_word_is_burned_in_at_the_same_place_whatever_the_labels():
    """Printed over black (collimated) or bright tissue, the letters' own pixels get nearer to one grey."""
    from xrt.runtime.phantoms.film import _text

    word = _text("SYNTHETIC", 18) > 0.95
    height, width = word.shape
    left, top = 512 - width // 2, 1024 - height // 2 - 10 - height // 2
    for index, findings in ((0, ()), (1, ("Mass",))):
        image = phantom(index, size=1024, findings=findings).image
        assert np.all(np.abs(image[top : top + height, left : left + width][word].astype(int) - 200) < 20)


def test_bytes_do_not_depend_on_the_number_of_processes(nih, tmp_path):
    write(tmp_path / "two", layout="nih", count=COUNT, seed=4, size=SIZE, workers=2)
    assert _hashes(tmp_path / "two") == _hashes(nih)


def test_rsna_dicom_is_readable_and_says_synthetic(rsna):
    import pydicom

    files = sorted((rsna / "stage_2_train_images").glob("*.dcm"))
    assert len(files) == COUNT
    for path in files[:6]:
        data = pydicom.dcmread(path)
        assert data.PatientName == "SYNTHETIC^PHANTOM"
        assert "synthetic phantom" in data.ImageComments
        assert data.BurnedInAnnotation == "YES"
        assert (data.Modality, data.BodyPartExamined) == ("CR", "CHEST")
        assert data.PhotometricInterpretation == "MONOCHROME2"
        assert data.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert data.StudyInstanceUID.is_valid
        assert path.stem == data.PatientID
        assert data.pixel_array.shape == (SIZE, SIZE)
        index = int(data.ImageComments.rsplit(" ", 1)[1])
        assert np.array_equal(data.pixel_array[: SIZE // 8], phantom(index, seed=4, size=SIZE).image[: SIZE // 8])


def test_rsna_tables_agree(rsna):
    labels, classes = (
        _table(rsna / "stage_2_train_labels.csv"),
        _table(rsna / "stage_2_detailed_class_info.csv"),
    )
    assert labels[0] == ["patientId", "x", "y", "width", "height", "Target"]
    assert classes[0] == ["patientId", "class"]
    kinds = dict(classes[1:])
    assert len(kinds) == COUNT
    assert set(kinds.values()) == {"Lung Opacity", "No Lung Opacity / Not Normal", "Normal"}
    for name, x, _, _, _, target in labels[1:]:
        assert (target == "1") == (kinds[name] == "Lung Opacity") == (x != "")
    assert len(labels) - 1 > COUNT  # several boxes stand in several rows


def test_rsna_without_pydicom_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingDependency, match=r"pip install 'xrt-runtime\[dicom\]'"):
        write(tmp_path / "out", layout="rsna", count=1, size=64)
    assert list(tmp_path.iterdir()) == []  # nothing half-written stays behind


def test_covid_has_four_folders_with_masks(tmp_path):
    out = tmp_path / "covid"
    write(out, layout="covid", count=8, seed=1, workers=1)
    for name in ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"):
        for number in (1, 2):
            image = Image.open(out / name / "images" / f"{name}-{number}.png")
            mask = Image.open(out / name / "masks" / f"{name}-{number}.png")
            assert (image.size, mask.size) == ((299, 299), (256, 256))
            assert "synthetic" in mask.text["Description"]
            lungs = np.asarray(mask) > 0
            assert 0.15 < lungs.mean() < 0.6
            grey = np.asarray(image.resize((256, 256)), dtype=float)
            middle = np.s_[64:200, 32:224]  # lungs are darker than what is between and around them
            assert grey[middle][lungs[middle]].mean() < grey[middle][~lungs[middle]].mean() - 30


def test_a_folder_with_something_in_it_is_refused_and_kept(tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty folder"):
        write(tmp_path, layout="nih", count=1, size=64)
    assert (tmp_path / "kept.txt").read_text() == "mine"


def test_a_broken_run_leaves_nothing(tmp_path):
    class Stop(Progress):
        def count(self, done: int, total: int | None, what: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", layout="nih", count=4, size=64, workers=1, progress=Stop())
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_reports(tmp_path, capsys):
    from xrt.runtime.cli.phantoms import Layout, phantoms

    phantoms(tmp_path / "out", layout=Layout.nih, count=3, size=64, workers=1)
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out'}: 3 synthetic radiographs in the nih layout, seed 0\n"
    assert captured.err == ""
    assert len(list((tmp_path / "out" / "images").iterdir())) == 3


def test_the_command_module_is_light():
    import subprocess

    code = "import sys, xrt.runtime.cli.phantoms; print(sorted({'numpy', 'PIL', 'pydicom'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_command_default_contrast_is_the_library_s():
    import inspect

    from xrt.runtime.cli.phantoms import phantoms
    from xrt.runtime.phantoms import DEFAULT_CONTRAST

    assert inspect.signature(phantoms).parameters["contrast"].default == DEFAULT_CONTRAST
