"""Which classes are explained: all, some by name, or each image's highest, chosen in the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from export.parity import compile_and_check, randomise, run, source_of
from export.test_methods import curved

from xrt.export.compile import Request, compile_source
from xrt.export.publish import ExportOptions, publish_source
from xrt.runtime.bundle.manifest import ClassSpec
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import UsageError
from xrt.runtime.gate import highest
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.phantoms import stress_images
from xrt.runtime.session import open_session


@pytest.fixture(scope="module")
def source():
    torch.manual_seed(3)
    module = curved()
    module.tail[-1][-1] = torch.nn.Linear(24, 6)
    return source_of(randomise(module), classes=6)


@pytest.fixture(scope="module")
def images(source):
    """Phantoms and extremes, so that the highest class is not one for all."""
    return np.concatenate([phantom_inputs(6, 3, source.preprocessing).images, stress_images(64, 64)[:3]])


@pytest.fixture(scope="module")
def all_classes(source, images):
    return run(compile_source(source), source, images)


def test_the_highest_of_each_image(source, images, all_classes):
    model = compile_and_check(source, Request(classes="top:2"))
    assert (model.graph.top_k, model.graph.cam_classes, model.graph.explained) == (2, "cam_classes", None)
    outputs = run(model, source, images)
    assert np.array_equal(outputs.cam_classes, highest(outputs.logits, 2))
    assert len(np.unique(outputs.cam_classes[:, 0])) > 1
    expected = np.take_along_axis(all_classes.cams["cams"], outputs.cam_classes[:, :, None, None], axis=1)
    # The same sums in another order.
    np.testing.assert_allclose(outputs.cams["cams"], expected, rtol=0, atol=1e-5 * expected.max())


def test_several_layers_for_the_highest_class(source):
    model = compile_and_check(source, Request(("trunk.2", "trunk"), classes="top:1"))
    assert [(c.output, c.layer, c.height) for c in model.graph.cams] == [
        ("cams", "trunk.2", 8), ("cams.trunk", "trunk", 8)
    ]  # fmt: skip


def test_some_classes_by_name(source, images, all_classes):
    model = compile_and_check(source, Request(classes="finding 4, finding 1"))
    assert model.graph.explained == (4, 1)
    outputs = run(model, source, images)
    np.testing.assert_allclose(outputs.cams["cams"], all_classes.cams["cams"][:, [4, 1]], atol=1e-6)


def test_one_logit_can_explain_either_class():
    torch.manual_seed(3)
    module = curved()
    module.tail[-1][-1] = torch.nn.Linear(24, 1)
    classes = (ClassSpec(name="normal"), ClassSpec(name="ill"))
    source = source_of(randomise(module), task="binary", classes=classes, explained_class=1)
    images = phantom_inputs(3, 3, source.preprocessing).images
    ill, normal, top = (
        run(compile_source(source, Request(classes=c)), source, images).cams["cams"] for c in ("all", "normal", "top:1")
    )
    assert (np.minimum(ill, normal) == 0).all()
    assert np.array_equal(ill, top)


@pytest.mark.parametrize(
    ("classes", "message"),
    [("top:0", "K from 1 to 6"), ("top:7", "K from 1 to 6"), ("top:x", "top:x"), ("Mass", "no class is called 'Mass'")],
)
def test_classes_that_are_not_there(source, classes, message):
    with pytest.raises(UsageError, match=message):
        compile_source(source, Request(classes=classes))


def test_a_top_k_bundle_screens_and_certifies(source, tmp_path):
    bundle = publish_source(
        replace(source, name="top"), tmp_path / "top.xrt", ExportOptions(Request(classes="top:2"))
    ).bundle
    opened = open_session(bundle)
    with opened.session:
        assert not opened.refusals
    from xrt.runtime import Screener
    from xrt.runtime.phantoms import write

    write(tmp_path / "images", layout="nih", count=3, seed=1, size=96, workers=0)
    with Screener(bundle) as screener:
        results = list(screener.screen(sorted((tmp_path / "images").rglob("*.png"))))
    assert {result.status for result in results} == {"ok"}
    for result in results:
        top = {finding.class_name for finding in sorted(result.findings, key=lambda f: -f.logit)[:2]}
        assert {finding.class_name for finding in result.findings if finding.box} <= top
    assert any(finding.box for result in results for finding in result.findings)


def test_choices_that_differ_are_no_match(source, images, all_classes):
    """The gate: the same maps under other classes fail, the other order of a tie does not."""
    from export.parity import manifest_of

    from xrt.runtime.gate import measure

    model = compile_source(source, Request(classes="top:2"))
    outputs = run(model, source, images)
    manifest = manifest_of(source, model.graph)
    assert measure(outputs, outputs, manifest).map_difference == 0
    reverse = ModelOutputs(outputs.logits, {"cams": outputs.cams["cams"][:, ::-1]}, outputs.cam_classes[:, ::-1])
    assert measure(outputs, reverse, manifest).map_difference == 0
    wrong = ModelOutputs(outputs.logits, outputs.cams, (outputs.cam_classes + 3) % 6)
    assert measure(outputs, wrong, manifest).map_correlation < 0.5
    equal_logits = np.tile(np.linspace(1, 1 + 1e-7, 6, dtype=np.float32), (len(images), 1))
    choice = np.tile(np.array([5, 4]), (len(images), 1))
    reference = ModelOutputs(equal_logits, outputs.cams, choice)
    other = ModelOutputs(equal_logits, outputs.cams, np.tile(np.array([5, 3]), (len(images), 1)))
    assert measure(reference, other, manifest).map_correlation > 0.999
