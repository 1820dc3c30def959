"""Extreme inputs, images that depend on each other, and a reference that is asked for one image alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from xrt.export.publish import publish_source
from xrt.export.references.independence import finite_stress_inputs, require_independent_images
from xrt.export.references.reference import Reference
from xrt.runtime.backends import Session
from xrt.runtime.certification.stress import StressInputs
from xrt.runtime.errors import ModelError
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.phantoms import phantom_images, stress_images
from xrt.runtime.progress import Progress


class FakeReference(Reference):
    """A reference whose logits are a function of the batch."""

    def __init__(self, logits):
        self.name, self._logits = "fake", logits

    def infer(self, images):
        maps = np.ones((len(images), 1, 2, 2), dtype=np.float32)
        return ModelOutputs(self._logits(images).astype(np.float32), {"cams": maps})

    def _outputs(self, images):
        return self.infer(images)


class FakeSession(Session):
    """A session that gives what a reference gives."""

    def __init__(self, logits):
        self._reference = FakeReference(logits)

    def infer(self, images, *, cams=True):
        return self._reference.infer(images)

    def _open(self, model, outputs): ...

    def _run(self, opened, images, outputs): ...


def means(images):
    return images.reshape(len(images), -1).mean(axis=1, keepdims=True) / 64


@pytest.fixture(scope="module")
def phantoms(compact_source):
    return phantom_images(6, 3, compact_source.preprocessing)


@pytest.fixture(scope="module")
def certificate(bundle_path):
    from xrt.runtime import Bundle

    return Bundle.open(bundle_path).manifest.certificates[0]


def test_a_file_that_breaks_at_an_extreme_is_refused(phantoms, certificate):
    """As an fp16 file did on 7 of 35 radiographs, that had passed on phantoms."""
    overflowing = FakeSession(lambda images: np.where(means(images) > 3.9, np.nan, means(images)))
    stress = StressInputs(stress_images(64, 64)).measure(overflowing, phantoms)
    assert not stress.finite
    entered = stress.entered_in(certificate)
    assert entered.verdict == "failed"
    assert any("the darkest or brightest input, noise or strips is NaN" in reason for reason in entered.reasons)


def test_images_that_depend_on_their_batch_are_refused(phantoms, certificate):
    """Its own neighbours are phantoms like it; white ones show that the scale is the batch's."""
    dynamic = FakeSession(lambda images: means(images) / means(images).max())
    entered = StressInputs(stress_images(64, 64)).measure(dynamic, phantoms).entered_in(certificate)
    assert any(reason.startswith("batch_change is 0.") for reason in entered.reasons)
    independent = StressInputs(stress_images(64, 64)).measure(FakeSession(means), phantoms)
    assert independent.finite
    assert independent.batch_change < 1e-6  # rounding of a mean
    assert independent.entered_in(certificate).verdict == certificate.verdict


def test_the_reference_is_asked_for_one_image(phantoms):
    dynamic = FakeReference(lambda images: means(images) - means(images).mean())
    with pytest.raises(ModelError, match=r"differ by 0\.\d+ between a batch of one and a larger one"):
        require_independent_images(dynamic, phantoms, dynamic.outputs(phantoms))
    require_independent_images(FakeReference(means), phantoms, FakeReference(means).outputs(phantoms))


class Standardised(torch.nn.Module):
    """Divides by the image's own deviation, so that it has no answer for a uniform one."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module((x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True))


def test_extremes_without_an_answer_of_the_model_itself_count_for_none(compact_source, tmp_path):
    class Notes(Progress):
        notes = []

        def note(self, text):
            self.notes.append(text)

    source = replace(compact_source, module=Standardised(compact_source.module))
    progress = Notes()
    bundle = publish_source(source, tmp_path / "a.xrt", progress=progress).bundle
    assert all(c.passed and c.figures["stress_finite"] for c in bundle.manifest.certificates)
    assert any(
        note.startswith("the model itself gives NaN, infinity or an error for 2 of 8") for note in progress.notes
    )


def test_no_extreme_is_left_out_for_nothing(phantoms):
    assert len(finite_stress_inputs(FakeReference(means), (64, 64)).images) == 8
