"""Images that certify: phantoms, folders, labelled data sets; and AUROC by ranks."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xrt.runtime.backends import Execution
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing
from xrt.runtime.certification.comparison import ReferenceOutputs, certificate_of
from xrt.runtime.certification.inputs import ValidationInputs, folder_inputs, phantom_inputs, read_inputs
from xrt.runtime.datasets import open_dataset_for
from xrt.runtime.errors import DataError
from xrt.runtime.gate import measure
from xrt.runtime.gate.auroc import auroc, mean_auroc
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.progress import Progress

SPEC = Preprocessing(height=32, width=32)


class Notes(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


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
    inputs = read_inputs(phantom_folder, SPEC, model("Mass", "Nodule"), "test")
    assert inputs.labels is not None
    assert inputs.labels.shape == (len(inputs.images), 2)
    assert len(inputs.names) == len(set(inputs.names)) == len(inputs.images)
    assert "test part" in inputs.source
    training = read_inputs(phantom_folder, SPEC, model("Mass", "Nodule"), "train")
    assert not set(training.names) & set(inputs.names)


@pytest.mark.parametrize(("task", "columns"), [("binary", [1]), ("multiclass", [0, 1]), ("multilabel", [0, 1])])
def test_labels_are_those_of_the_model_s_logits(phantom_folder, tmp_path, task, columns):
    """Whatever the data set's own task is: NIH is multilabel, this MedMNIST file binary."""
    classes = ["No Finding", "Mass"]
    two = model(*classes, task=task)
    inputs = read_inputs(phantom_folder, SPEC, two, "test")
    by_key = {case.key: case for case in open_dataset_for(two, phantom_folder).cases}
    truth = np.array([[name in by_key[key].labels for name in classes] for key in inputs.names])
    np.testing.assert_array_equal(inputs.labels, truth[:, columns])
    images, labels = np.zeros((3, 28, 28), np.uint8), np.array([[1], [0], [1]])
    arrays = {
        f"{part}_{kind}": a for part in ("train", "val", "test") for kind, a in (("images", images), ("labels", labels))
    }
    np.savez(tmp_path / "two.npz", **arrays)
    inputs = read_inputs(tmp_path / "two.npz", SPEC, two, "test")
    np.testing.assert_array_equal(inputs.labels, np.array([[0, 1], [1, 0], [0, 1]])[:, columns])


def test_a_class_that_no_image_has_is_absent(phantom_folder):
    inputs = read_inputs(phantom_folder, SPEC, model("Mass", "Rickets"), "test")
    assert inputs.labels is not None
    assert inputs.labels[:, 1].max() == 0


def test_labels_of_other_classes_are_not_used_and_said_so(phantom_folder):
    progress = Notes()
    inputs = read_inputs(phantom_folder, SPEC, model("Scurvy", "Rickets"), "test", progress=progress)
    assert inputs.labels is None
    assert "has no image of Scurvy, Rickets, but images of Atelectasis" in progress.notes[0]
    assert len(inputs.images) == 40


def test_images_of_no_class_are_left_out_and_said_so(phantom_folder):
    progress = Notes()
    inputs = read_inputs(phantom_folder, SPEC, model("No Finding", "Mass", task="binary"), "train", progress=progress)
    assert inputs.labels is not None
    assert inputs.labels.shape[1] == 1
    assert "images of nih (NIH ChestX-ray14 layout) belong to no class of the model" in progress.notes[0]


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
    progress = Notes()
    inputs = read_inputs(tmp_path, SPEC, model("Mass"), "test", progress=progress)
    assert set(inputs.names) == set(odd.values())
    assert progress.notes == [rf"{tmp_path}/\xff\n: not a PNG, JPEG, TIFF, BMP, WebP, JPEG 2000 or DICOM image"]


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
        read_inputs(tmp_path / "a.txt", SPEC, model("Mass"), "test")


def test_what_labels_lose_is_measured(bundle):
    """A candidate that ranks one class the other way round loses twice its distance from one half."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    labels = (logits + rng.normal(size=logits.shape) > 0).astype(np.float32)
    cams = np.abs(rng.normal(size=(200, 3, 4, 4))).astype(np.float32)
    worse = logits.copy()
    worse[:, 0] *= -1
    figures = measure(
        ModelOutputs(logits, {"cams": cams}), ModelOutputs(worse, {"cams": cams}), bundle.manifest, labels=labels
    )
    before = roc_auc_score(labels[:, 0], logits[:, 0])
    assert figures.auroc_drop == pytest.approx((2 * before - 1) / 3, abs=1e-9)


def test_the_same_image_many_times_is_no_evidence(bundle):
    rng = np.random.default_rng(0)
    outputs = ModelOutputs(
        rng.normal(size=(100, 3)).astype(np.float32), {"cams": rng.random(size=(100, 3, 4, 4), dtype=np.float32)}
    )
    different = rng.integers(0, 256, size=(100, 1, 8, 8), dtype=np.uint8)
    repeated = different.copy()
    repeated[99] = repeated[0]
    execution = Execution(bundle.manifest.variants[0], OnnxRuntimeCpu())
    certificates = []
    for images in (different, repeated):
        inputs = ValidationInputs(images, "folder", tuple(map(str, range(100))))
        reference = ReferenceOutputs(inputs, outputs, "itself")
        certificates.append(certificate_of(execution, reference, outputs, bundle.manifest))
    assert [certificate.verdict for certificate in certificates] == ["passed", "insufficient"]
    assert certificates[1].reasons == (
        "297 decisions on different images that could be another are insufficient evidence, 300 are needed",
    )


def test_the_same_image_has_the_same_digest():
    first, second = phantom_inputs(3, 1, SPEC), phantom_inputs(4, 1, SPEC)
    assert first.digests == second.digests[:3]
    assert len(set(second.digests)) == 4
