from __future__ import annotations

import numpy as np
import pytest

from xrt.benchmarks.parity import compare
from xrt.benchmarks.speed.contenders import unscaled_cams
from xrt.benchmarks.speed.measure import CONTROL, EXPLAINED, LOGITS_ONLY, SpeedOptions, measure_speed
from xrt.export.compile import compile_source
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.session import open_session


@pytest.fixture(scope="module")
def model(compact_source):
    return compile_source(compact_source)


def test_pytorch_grad_cam_agrees_with_autograd_at_the_same_tensor(model, compact_source):
    images = phantom_inputs(3, 4, compact_source.preprocessing).images
    ours = model.reference.outputs(images).cams["cams"]
    assert np.abs(unscaled_cams(model.reference, images) - ours).max() <= 1e-5 * ours.max()


def test_a_bundle_passes_against_its_own_model(bundle, model, compact_source):
    images = phantom_inputs(9, 4, compact_source.preprocessing).images
    with open_session(bundle) as opened:
        rows = compare(opened, model.reference, images)
    assert [(row.reference, row.batch_size) for row in rows] == [
        ("torch autograd", 1), ("pytorch-grad-cam", 1), ("torch autograd", 7), ("pytorch-grad-cam", 7)
    ]  # fmt: skip
    assert {row.verdict for row in rows} == {"passed"}


def test_maps_that_are_mostly_empty_prove_nothing(bundle, model, compact_source, monkeypatch):
    images = phantom_inputs(9, 4, compact_source.preprocessing).images
    opened = open_session(bundle)
    known = opened.session.infer(images)
    cams = known.cams["cams"] * (np.arange(3) == 0)[:, None, None]

    class Reference(type(model.reference)):
        def outputs(self, images, batch_size=8):
            return ModelOutputs(known.logits, {"cams": cams})

    reference = Reference.__new__(Reference)
    vars(reference).update(vars(model.reference))
    with opened.session:
        rows = compare(opened, reference, images, [1])
    assert rows[0].verdict == "failed"
    assert any("vacuous" in reason for reason in rows[0].reasons)


def test_every_contender_is_timed(bundle, compact_source):
    options = SpeedOptions(batch_sizes=(2,), rounds=3, budget_s=0)
    with open_session(bundle) as opened:
        rows = measure_speed(opened, options, source=compact_source)
    names = [row.contender for row in rows]
    assert names[:3] == [EXPLAINED, CONTROL, LOGITS_ONLY]
    assert names[3:] == [
        "eager",
        "eager, channels-last",
        "eager, channels-last, bf16",
        "eager + pytorch-grad-cam, 1 class",
        "eager + pytorch-grad-cam, 3 classes",
    ]
    assert all(row.ms_per_image > 0 for row in rows)
