"""The RSNA layout: boxes, detailed classes, headers, the NIH's patients, and tables that contradict each other."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xrt.runtime.datasets import LabelledBox, open_dataset
from xrt.runtime.errors import DataError, UnreadableImage
from xrt.runtime.geometry import Box

TARGETS, DETAILS = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
DETAILED = ("Normal", "No Lung Opacity / Not Normal", "Lung Opacity")


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def edited(rsna_phantoms: Path, tmp_path: Path) -> Callable[..., Path]:
    """A function that copies the phantoms and lets a callback change the rows of one table."""

    def edit(file: str, change: Callable[[list[dict[str, str]]], object]) -> Path:
        folder = Path(shutil.copytree(rsna_phantoms, tmp_path / "rsna"))
        rows = rows_of(folder / file)
        change(rows)
        with (folder / file).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return folder

    return edit


def test_the_challenge_s_question_is_binary(rsna_phantoms: Path) -> None:
    table = open_dataset(rsna_phantoms)
    assert (table.task, table.classes, table.logit_classes) == (
        "binary",
        ("No Lung Opacity", "Lung Opacity"),
        ("Lung Opacity",),
    )
    positive = {row["patientId"] for row in rows_of(rsna_phantoms / TARGETS) if row["Target"] == "1"}
    assert 0 < len(positive) < len(table) == 16
    assert {
        Path(case.key).stem for case, label in zip(table.cases, table.labels[:, 0], strict=True) if label
    } == positive


def test_all_boxes_of_an_image(rsna_phantoms: Path) -> None:
    expected = Counter()
    for row in rows_of(rsna_phantoms / TARGETS):
        if row["x"]:
            sides = [float(row[side]) for side in ("x", "y", "width", "height")]
            expected[f"stage_2_train_images/{row['patientId']}.dcm", LabelledBox("Lung Opacity", Box(*sides))] += 1
    actual = Counter((case.key, box) for case in open_dataset(rsna_phantoms).cases for box in case.boxes)
    assert actual == expected
    assert max(Counter(key for key, _ in actual).values()) > 1


def test_detailed_classes_are_multiclass(rsna_phantoms: Path) -> None:
    table = open_dataset(rsna_phantoms, classes=DETAILED)
    assert (table.task, table.classes) == ("multiclass", DETAILED)
    kinds = {row["patientId"]: row["class"] for row in rows_of(rsna_phantoms / DETAILS)}
    assert [case.labels for case in table.cases] == [(kinds[Path(case.key).stem],) for case in table.cases]
    np.testing.assert_array_equal(table.labels.sum(axis=1), 1)


def test_other_questions_by_groups(rsna_phantoms: Path) -> None:
    table = open_dataset(rsna_phantoms, groups={"healthy": ["Normal"], "ill": ["*"]})
    kinds = Counter({row["patientId"]: row["class"] for row in rows_of(rsna_phantoms / DETAILS)}.values())
    assert table.labels.sum() == 16 - kinds["Normal"]
    assert {box.label for case in table.cases for box in case.boxes} == {"ill"}


def test_headers_give_view_sex_and_age(rsna_phantoms: Path) -> None:
    import pydicom

    for case in open_dataset(rsna_phantoms).cases:
        header = pydicom.dcmread(rsna_phantoms / case.key)
        assert (case.view, case.sex, f"{case.age:03d}Y") == (header.ViewPosition, header.PatientSex, header.PatientAge)


def test_pixels_come_from_dicom(rsna_phantoms: Path) -> None:
    assert open_dataset(rsna_phantoms).pixels(0).shape == (64, 64)


def test_an_image_is_its_own_patient_until_the_mapping_says_whose_it_is(rsna_phantoms: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(rsna_phantoms, tmp_path / "rsna"))
    (folder / "phantoms.csv").unlink()  # so that the notes are those of the data set
    before = open_dataset(folder)
    assert len({case.patient for case in before.cases}) == 16
    assert "A patientId of the challenge names an image, not a person" in before.notes[1]
    assert len(before.notes) == 2
    names = [Path(case.key).stem for case in before.cases]
    mapping = [{"subset_img_id": name, "img_id": f"{i // 2:08d}_{i:03d}.png"} for i, name in enumerate(names)]
    (folder / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    after = open_dataset(folder)
    assert [case.patient for case in after.cases] == [f"{i // 2:08d}" for i in range(16)]
    assert [note[:40] for note in after.notes] == ["The images of the RSNA Pneumonia Detecti"]


def test_a_broken_mapping_is_refused(edited: Callable[..., Path]) -> None:
    folder = edited(TARGETS, lambda rows: rows)
    (folder / "pneumonia-challenge-dataset-mappings_2018.json").write_text('[{"img": 1}]')
    with pytest.raises(DataError, match="is not the RSNA's list of subset_img_id and img_id"):
        open_dataset(folder)


def opaque(rows: list[dict[str, str]]) -> dict[str, str]:
    return next(row for row in rows if row.get("Target") == "1" or row.get("class") == "Lung Opacity")


def clear(rows: list[dict[str, str]]) -> dict[str, str]:
    return next(row for row in rows if row["Target"] == "0")


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (
            TARGETS,
            lambda rows: opaque(rows).update(Target="0"),
            "line 2: expected Target 1 with a box or Target 0 without one",
        ),
        (TARGETS, lambda rows: opaque(rows).update(x="", y="", width="", height=""), "expected Target 1 with a box"),
        (TARGETS, lambda rows: opaque(rows).update(width="wide"), "expected Target 1 with a box"),
        (TARGETS, lambda rows: opaque(rows).update(height="-3"), "expected Target 1 with a box"),
        (TARGETS, lambda rows: opaque(rows).update(Target="2"), "expected Target 1 with a box"),
        (TARGETS, lambda rows: rows.append(clear(rows)), "is listed twice, with Target 0"),
        (TARGETS, lambda rows: rows.append(opaque(rows)), "the same box of .* is listed twice"),
        (TARGETS, lambda rows: rows.remove(clear(rows)), rf"{TARGETS} has no row for .* \(1 in all\)"),
        (TARGETS, lambda rows: rows.append({**clear(rows), "patientId": "x"}), rf"{DETAILS} has no row for x"),
        (DETAILS, lambda rows: opaque(rows).update({"class": "Normal"}), "is 'Lung Opacity' here and 'Normal' above"),
        (DETAILS, lambda rows: rows[0].update({"class": "Abnormal"}), "line 2: class 'Abnormal' is none of Normal, No"),
    ],
)
def test_contradictions(edited: Callable[..., Path], file: str, change: Callable[..., object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(edited(file, change))


def test_target_and_detailed_class_must_agree(edited: Callable[..., Path]) -> None:
    def calm(rows: list[dict[str, str]]) -> None:
        name = opaque(rows)["patientId"]
        for row in rows:
            if row["patientId"] == name:
                row["class"] = "Normal"

    with pytest.raises(DataError, match=rf"has Target 1 in {TARGETS} and is 'Normal' in {DETAILS}; correct one"):
        open_dataset(edited(DETAILS, calm))


def test_without_detailed_classes(edited: Callable[..., Path]) -> None:
    folder = edited(TARGETS, lambda rows: rows)
    (folder / DETAILS).unlink()
    with pytest.raises(DataError, match=rf"{DETAILS} is not there; it belongs to the challenge's files"):
        open_dataset(folder)


def test_a_missing_and_a_damaged_image(edited: Callable[..., Path]) -> None:
    folder = edited(TARGETS, lambda rows: rows)
    first, second, *_ = sorted((folder / "stage_2_train_images").iterdir())
    first.unlink()
    second.write_bytes(b"no DICOM")
    with pytest.raises(DataError, match=rf"1 of 16 images are not on disk \(for example .*{first.name}\).*5%"):
        open_dataset(folder)
    table = open_dataset(folder, allow_missing=0.1)
    assert table.missing == (f"stage_2_train_images/{first.name}",)
    damaged = next(i for i, case in enumerate(table.cases) if case.key.endswith(second.name))
    assert table.cases[damaged].view is None, "opening does not stop at it, decoding does"
    with pytest.raises(UnreadableImage, match=second.name):
        table.pixels(damaged)
