"""Images that certify: phantoms, folders, labelled data sets; and AUROC by ranks."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from xrt.runtime.bundle.manifest import ClassSpec, Preprocessing
from xrt.runtime.errors import DataError
from xrt.runtime.gate import Answers, measure
from xrt.runtime.gate.auroc import auroc, mean_auroc
from xrt.runtime.gate.evidence import gathered_inputs, phantom_inputs

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


def test_neither_folder_nor_data_set(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"a\.npz is neither a folder of radiographs nor a labelled data set"):
        gathered_inputs(tmp_path / "a.npz", SPEC, model("Mass"), "test")


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


def test_the_same_image_has_the_same_digest():
    first, second = phantom_inputs(3, 1, SPEC), phantom_inputs(4, 1, SPEC)
    assert first.digests == second.digests[:3]
    assert len(set(second.digests)) == 4
