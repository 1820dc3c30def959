"""Images that certify: phantoms, folders, labelled data sets; and AUROC by ranks."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing
from xrt.runtime.cases import cases_for
from xrt.runtime.errors import DataError
from xrt.runtime.gate import Answers, certificate_of, measure
from xrt.runtime.gate.auroc import auroc, mean_auroc
from xrt.runtime.gate.evidence import EvidenceImages, folder_inputs, gathered_inputs, phantom_inputs

SPEC = Preprocessing(height=32, width=32)


def model(*names, task="multilabel"):
    return SimpleNamespace(task=task, classes=tuple(ClassSpec(name=name) for name in names))


def test_auroc_is_scikit_learn_s():
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.2).astype(float)
    scores = np.round(rng.normal(size=500) + labels, 1)  # with ties
    assert auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_a_class_of_one_kind_has_no_auroc():
    assert auroc(np.ones(3), np.arange(3.0)) is None
    labels = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    assert mean_auroc(labels, np.array([[0.1, 0.2], [0.2, 0.9], [0.3, 0.1]])) == 1.0
    assert mean_auroc(labels[:, :1], labels[:, :1]) is None


def test_a_data_set_gives_its_labels(phantom_folder):
    found = gathered_inputs(phantom_folder, SPEC, model("Mass", "Nodule"), "test")
    assert found.labels is not None
    assert found.labels.shape == (len(found.images), 2)
    assert len(found.names) == len(set(found.names)) == len(found.images)
    assert "test part" in found.source
    training = gathered_inputs(phantom_folder, SPEC, model("Mass", "Nodule"), "train")
    assert not set(training.names) & set(found.names)


@pytest.mark.parametrize(("task", "columns"), [("binary", [1]), ("multiclass", [0, 1]), ("multilabel", [0, 1])])
def test_labels_are_those_of_the_model_s_logits(phantom_folder, tmp_path, task, columns):
    """Whatever the data set's own task is: NIH is multilabel, this MedMNIST file binary."""
    classes = ["No Finding", "Mass"]
    two = model(*classes, task=task)
    found = gathered_inputs(phantom_folder, SPEC, two, "test")
    by_key = {case.key: case for case in cases_for(two, phantom_folder).cases}
    truth = np.array([[name in by_key[key].labels for name in classes] for key in found.names])
    np.testing.assert_array_equal(found.labels, truth[:, columns])
    images, labels = np.zeros((3, 28, 28), np.uint8), np.array([[1], [0], [1]])
    arrays = {
        f"{part}_{kind}": a for part in ("train", "val", "test") for kind, a in (("images", images), ("labels", labels))
    }
    np.savez(tmp_path / "two.npz", **arrays)
    found = gathered_inputs(tmp_path / "two.npz", SPEC, two, "test")
    np.testing.assert_array_equal(found.labels, np.array([[0, 1], [1, 0], [0, 1]])[:, columns])


def test_a_class_that_no_image_has_is_absent(phantom_folder):
    found = gathered_inputs(phantom_folder, SPEC, model("Mass", "Rickets"), "test")
    assert found.labels is not None
    assert found.labels[:, 1].max() == 0


def test_labels_of_other_classes_are_not_used_and_said_so(phantom_folder):
    said: list[str] = []
    found = gathered_inputs(phantom_folder, SPEC, model("Scurvy", "Rickets"), "test", skipped=said.append)
    assert found.labels is None
    assert "has no image of Scurvy, Rickets, but images of Atelectasis" in said[0]
    assert len(found.images) == 40


def test_images_of_no_class_are_left_out_and_said_so(phantom_folder):
    said: list[str] = []
    found = gathered_inputs(
        phantom_folder, SPEC, model("No Finding", "Mass", task="binary"), "train", skipped=said.append
    )
    assert found.labels is not None
    assert found.labels.shape[1] == 1
    assert "images of nih (NIH ChestX-ray14 layout) belong to no class of the model" in said[0]


def test_odd_names_fit_in_a_report(phantom_folder, tmp_path):
    image = min((phantom_folder / "images").iterdir()).read_bytes()
    odd = {
        b"r\xf6ntgen.png": r"r\xf6ntgen.png",
        b"a\nb\x1b[31m.png": r"a\nb\x1b[31m.png",
        "胸部.png".encode(): "胸部.png",
    }
    for name in odd:
        (tmp_path / os.fsdecode(name)).write_bytes(image)
    (tmp_path / os.fsdecode(b"\xff\n")).write_bytes(b"none")
    said: list[str] = []
    found = gathered_inputs(tmp_path, SPEC, model("Mass"), "test", skipped=said.append)
    assert set(found.names) == set(odd.values())
    assert said == [rf"{tmp_path}/\xff\n: not a PNG, JPEG, TIFF, BMP or DICOM image"]


def test_what_is_left_out_makes_room_for_others(phantom_folder, tmp_path):
    for number, image in enumerate(sorted((phantom_folder / "images").iterdir())[:6]):
        (tmp_path / f"{number}.png").write_bytes(image.read_bytes())
    for number in range(40):
        (tmp_path / f"a{number}.txt").write_text("notes")
    assert len(folder_inputs(tmp_path, SPEC, limit=5).images) == 5
    assert folder_inputs(tmp_path, SPEC, limit=50).names == tuple(f"{number}.png" for number in range(6))


def test_neither_folder_nor_data_set(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.txt is neither a folder of radiographs nor a labelled data set"):
        gathered_inputs(tmp_path / "a.txt", SPEC, model("Mass"), "test")


def test_what_labels_lose_is_measured(bundle):
    """A candidate that ranks one class the other way round loses twice its distance from one half."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    labels = (logits + rng.normal(size=logits.shape) > 0).astype(np.float32)
    cams = np.abs(rng.normal(size=(200, 3, 4, 4))).astype(np.float32)
    worse = logits.copy()
    worse[:, 0] *= -1
    figures = measure(Answers(logits, {"cams": cams}), Answers(worse, {"cams": cams}), bundle.manifest, labels=labels)
    before = roc_auc_score(labels[:, 0], logits[:, 0])
    assert figures.auroc_drop == pytest.approx((2 * before - 1) / 3, abs=1e-9)


def test_the_same_image_many_times_is_no_evidence(bundle):
    rng = np.random.default_rng(0)
    said = Answers(
        rng.normal(size=(100, 3)).astype(np.float32), {"cams": rng.random(size=(100, 3, 4, 4), dtype=np.float32)}
    )
    different = rng.integers(0, 256, size=(100, 1, 8, 8), dtype=np.uint8)
    repeated = different.copy()
    repeated[99] = repeated[0]
    found = [
        certificate_of(
            bundle.manifest.variants[0], OnnxRuntimeCpu(), said, said, bundle.manifest,
            evidence=EvidenceImages(images, "folder", tuple(map(str, range(100)))), reference_name="itself",
        )
        for images in (different, repeated)
    ]  # fmt: skip
    assert [certificate.verdict for certificate in found] == ["passed", "insufficient"]
    assert found[1].reasons == ("297 decisions on different images are insufficient evidence, 300 are needed",)


def test_the_same_image_has_the_same_digest():
    first, second = phantom_inputs(3, 1, SPEC), phantom_inputs(4, 1, SPEC)
    assert first.digests == second.digests[:3]
    assert len(set(second.digests)) == 4
