"""What counts as evidence, and what a verdict says of it. Each case passed once, or passed for more than it is."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from xrt.runtime.backends import Execution
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.certificate import Certificate
from xrt.runtime.bundle.known_answers import KnownAnswers
from xrt.runtime.certification.comparison import ReferenceOutputs, certificate_of
from xrt.runtime.certification.inputs import ValidationInputs, phantom_inputs, read_inputs
from xrt.runtime.certification.known_answers import known_answer_limits
from xrt.runtime.errors import Uncertified
from xrt.runtime.gate import LIMITS, distinct_images, judge, measure, open_decisions, shown_in
from xrt.runtime.outputs import ModelOutputs
from xrt.runtime.session import open_session

COUNT = 120


@pytest.fixture(scope="module")
def phantoms(compact_source):
    return phantom_inputs(COUNT, 20_102, compact_source.preprocessing)


@pytest.fixture
def outputs():
    rng = np.random.default_rng(0)
    cams = np.abs(rng.normal(size=(COUNT, 3, 4, 4))).astype(np.float32)
    return ModelOutputs(rng.normal(size=(COUNT, 3)).astype(np.float32), {"cams": cams})


def certificate(bundle, inputs, reference, candidate=None, *, precision="fp32", accepted=()):
    variant = bundle.manifest.variants[0].model_copy(update={"precision": precision})
    compared = ReferenceOutputs(inputs, reference, "itself", accepted)
    candidate = reference if candidate is None else candidate
    return certificate_of(Execution(variant, OnnxRuntimeCpu()), compared, candidate, bundle.manifest)


def folder(images, **changes):
    return replace(ValidationInputs(images, "a folder", tuple(map(str, range(len(images))))), **changes)


def saved_as_jpeg(images):
    def again(image):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=80)
        return np.asarray(Image.open(file))

    return np.stack([again(image[0])[None] for image in images])


def test_phantoms_differ_in_fact(phantoms):
    assert distinct_images(phantoms.images).all()


def test_images_that_show_the_same_count_once(phantoms):
    some = phantoms.images[:10]
    brighter = np.clip(some.astype(int) + 9, 0, 255).astype(np.uint8)
    uniform = np.arange(100, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 64, 64), dtype=np.uint8)
    assert distinct_images(np.concatenate([some, saved_as_jpeg(some), brighter])).tolist() == [True] * 10 + [False] * 20
    assert distinct_images(uniform).sum() == 1
    assert shown_in(saved_as_jpeg(some), phantoms.images).all()
    assert not shown_in(some, phantoms.images[10:]).any()
    assert shown_in(uniform[:3], np.concatenate([some, uniform[9:10]])).all()


@pytest.mark.parametrize("size", [(28, 28), (20, 300), (512, 33)])
def test_inputs_of_any_size_are_compared(size):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(4, 1, *size), dtype=np.uint8)
    assert distinct_images(np.concatenate([images, images[:2]])).tolist() == [True] * 4 + [False] * 2


def test_a_hundred_greys_are_no_evidence(bundle, outputs):
    greys = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 64, 64), dtype=np.uint8)
    result = certificate(bundle, folder(greys), outputs)
    assert result.verdict == "insufficient"
    assert result.reasons[0] == "1 different images are insufficient evidence, 32 are needed"
    assert (result.evidence.images, result.evidence.different_images) == (COUNT, 1)


def test_many_classes_do_not_replace_images(bundle, phantoms):
    """300 decisions of few images depend on each other."""
    rng = np.random.default_rng(0)
    classes = tuple(bundle.manifest.classes[0].model_copy(update={"name": f"class {i}"}) for i in range(20))
    manifest = bundle.manifest.model_copy(
        update={"classes": classes, "graph": bundle.manifest.graph.model_copy(update={"explained": tuple(range(20))})}
    )
    cams = np.abs(rng.normal(size=(20, 20, 4, 4))).astype(np.float32)
    few = ModelOutputs(rng.normal(size=(20, 20)).astype(np.float32), {"cams": cams})
    figures = measure(few, few, manifest, distinct=distinct_images(phantoms.images[:20]))
    assert figures.decisions >= 300
    assert judge(figures, LIMITS["fp32"])[0] == "insufficient"


def test_decisions_that_cannot_be_another_are_not_counted(bundle, outputs):
    manifest = bundle.manifest
    without, certain, _ = manifest.classes
    classes = (without.model_copy(update={"threshold": None}), certain, manifest.classes[2])
    logits = outputs.logits.copy()
    logits[:, 1] = 40 + 0.1 * logits[:, 1]
    counted = open_decisions(logits, manifest.model_copy(update={"classes": classes}))
    # Without a threshold, and forty away from it. (REACH is a quarter of 1 + 40: ten.)
    assert not counted[:, :2].any()
    assert counted[:, 2].all()


def test_the_bound_is_one_of_images(bundle, outputs, phantoms):
    """Three flips in one image are one event in 120 trials, not three in 360."""
    logits = outputs.logits.copy()
    logits[7] *= -1
    figures = measure(
        outputs, ModelOutputs(logits, outputs.cams), bundle.manifest, distinct=distinct_images(phantoms.images)
    )
    assert figures.flips == pytest.approx(3 / 360, abs=1 / 360)
    assert figures.flips_upper == pytest.approx(0.039, abs=2e-3)  # Clopper and Pearson, 1 of 120


@pytest.mark.parametrize("maps", [np.zeros, np.ones])
def test_empty_or_constant_maps_are_not_proved(bundle, outputs, phantoms, maps):
    """They agreed with a correlation of 1."""
    blind = ModelOutputs(outputs.logits, {"cams": maps((COUNT, 3, 4, 4), dtype=np.float32)})
    result = certificate(bundle, folder(phantoms.images), blind)
    assert result.verdict == "insufficient"
    assert result.reasons == ("heatmaps are not proved: the model's own are zero, or the same on every image",)


def test_maps_that_vary_over_their_places_by_rounding_are_not_proved(bundle, outputs, phantoms):
    """Their correlation is that of two roundings: it failed the limit of a model that is right."""
    rng = np.random.default_rng(0)
    levels = (1 + np.arange(COUNT, dtype=np.float32) / COUNT)[:, None, None, None]

    def rounded() -> ModelOutputs:
        noise = rng.normal(scale=1e-6, size=(COUNT, 3, 4, 4)).astype(np.float32)
        return ModelOutputs(outputs.logits, {"cams": levels * (1 + noise)})

    reference = rounded()
    result = certificate(bundle, folder(phantoms.images), reference, rounded())
    assert result.verdict == "insufficient"
    assert result.reasons == ("heatmaps are not proved: the model's own are one number, all over the image",)
    wrong = ModelOutputs(outputs.logits, {"cams": 1.1 * reference.cams["cams"]})
    assert certificate(bundle, folder(phantoms.images), reference, wrong).verdict == "failed"


def test_a_class_whose_maps_are_empty_is_named(bundle, outputs, phantoms):
    cams = outputs.cams["cams"].copy()
    cams[:, 1] = 0
    result = certificate(bundle, folder(phantoms.images), ModelOutputs(outputs.logits, {"cams": cams}))
    assert result.verdict == "passed"
    assert result.unproved == ("heatmap of Nodule in cams, empty on every image",)
    assert "heatmap of Nodule in cams, empty on every image: nothing is proved" in result.unmeasured


def test_empty_maps_do_not_raise_the_correlation(bundle, outputs, phantoms):
    """A 5th percentile over pairs of which most are empty saw nothing of the others."""
    logits = np.abs(outputs.logits) + 1
    cams = outputs.cams["cams"].copy()
    cams[:, 1:] = 0
    cams[4:, 0] = 0
    cams[4:, 1] = np.random.default_rng(1).random((COUNT - 4, 4, 4))
    reference = ModelOutputs(logits, {"cams": cams})
    wrong = cams.copy()
    wrong[:4, 0] = wrong[:4, 0, ::-1]
    figures = measure(reference, ModelOutputs(logits, {"cams": wrong}), bundle.manifest)
    assert figures.map_correlation < 1


def test_constant_logits_are_not_proved(bundle, outputs, phantoms):
    constant = ModelOutputs(np.ones_like(outputs.logits), outputs.cams)
    result = certificate(bundle, folder(phantoms.images), constant)
    assert result.verdict == "insufficient"
    assert "logits are not proved: the model's own are the same on every image" in result.reasons
    assert result.unproved[0] == "logit of Mass, the same on every image"
    frozen = ModelOutputs(np.broadcast_to(outputs.logits[:1], outputs.logits.shape).copy(), outputs.cams)
    assert (
        "the logits do not change with the image"
        in certificate(bundle, folder(phantoms.images), outputs, frozen, precision="int8").reasons
    )


def labelled(phantoms, logits, *, swapped=False):
    labels = (logits > 0).astype(np.float32)
    if swapped:
        labels[:, 0] = 1 - labels[:, 0]
    return folder(phantoms.images, labels=labels)


def test_a_class_worse_than_chance_is_refused(bundle, outputs, phantoms):
    """A bundle with swapped labels passed with "labelled, drop 0"."""
    result = certificate(bundle, labelled(phantoms, outputs.logits), outputs)
    assert result.verdict == "passed"
    assert {name: area[0] for name, area in result.evidence.auroc.items()} == {
        "Mass": 1.0,
        "Nodule": 1.0,
        "No Finding": 1.0,
    }
    inputs = labelled(phantoms, outputs.logits, swapped=True)
    result = certificate(bundle, inputs, outputs)
    assert result.verdict == "failed"
    (reason,) = result.reasons
    assert reason.startswith("the model's own AUROC of Mass on a folder is 0.000 [0.000, 0.1")
    assert reason.endswith("--accept-labels 'Mass'")
    result = certificate(bundle, inputs, outputs, accepted=("Mass",))
    assert (result.verdict, result.evidence.accepted) == ("passed", ("Mass",))


def test_a_few_labels_refuse_nothing(bundle, outputs, phantoms):
    """One positive below one negative: chance may do that."""
    labels = np.zeros((COUNT, 3), dtype=np.float32)
    labels[outputs.logits.argmin(axis=0), range(3)] = 1
    result = certificate(bundle, folder(phantoms.images, labels=labels), outputs)
    assert all(low == 0 and high > 0.5 for _, low, high in result.evidence.auroc.values())
    assert result.verdict == "passed"


def test_labels_matched_by_place_are_refused(bundle, outputs, phantoms, tmp_path):
    inputs = replace(labelled(phantoms, outputs.logits), named_by_place=True)
    result = certificate(bundle, inputs, outputs)
    assert result.reasons == (
        "a folder does not name its labels as the classes are named, so they were matched by their order alone: name "
        "the classes as it does, or --accept-labels 'Mass,Nodule,No Finding'",
    )
    assert certificate(bundle, inputs, outputs, accepted=("Mass", "Nodule", "No Finding")).verdict == "passed"
    arrays = {f"{part}_images": phantoms.images[:6, 0] for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.eye(3, dtype=np.uint8)[[0, 1, 2] * 2] for part in ("train", "val", "test")}
    np.savez(tmp_path / "unknown.npz", **arrays, **labels)
    assert read_inputs(tmp_path / "unknown.npz", bundle.manifest.preprocessing, bundle.manifest, "test").named_by_place


def test_phantoms_pass_as_phantoms(bundle, outputs, phantoms, phantom_folder):
    assert certificate(bundle, phantoms, outputs).verdict == "passed (synthetic only)"
    inputs = read_inputs(phantom_folder / "images", bundle.manifest.preprocessing, bundle.manifest, "test")
    assert inputs.synthetic  # files are known as well


def test_radiographs_are_required_or_preferred(bundle):
    assert not bundle.passed_on_radiographs(bundle.variant())
    with pytest.raises(Uncertified, match=r"model\.fp32\.onnx was not certified on radiographs: .*--certify"):
        open_session(bundle, require_radiographs=True)
    fp16 = bundle.manifest.variants[0].model_copy(update={"precision": "fp16", "sha256": "1" * 64, "file": "b.onnx"})
    passed = bundle.manifest.certificates[0].model_copy(update={"file_sha256": "1" * 64, "verdict": "passed"})
    manifest = bundle.manifest.model_copy(
        update={
            "variants": (*bundle.manifest.variants, fp16),
            "certificates": (*bundle.manifest.certificates, passed),
        }
    )
    assert replace(bundle, manifest=manifest).variant().precision == "fp16"


def test_what_passed_on_phantoms_before_schema_5_says_so(bundle):
    old = bundle.manifest.certificates[0].model_dump()
    old["verdict"] = "passed"
    for name in ("synthetic", "different_images", "auroc", "accepted"):
        del old["evidence"][name]
    certificate = Certificate.model_validate(old)
    assert certificate.verdict == "passed (synthetic only)"
    assert "how many of the images differ in fact" in certificate.unmeasured


def test_int8_logits_have_a_limit(bundle, outputs, phantoms):
    """Far from the thresholds a probability hides any error of a logit."""
    reference = ModelOutputs(outputs.logits + np.float32(30), outputs.cams)
    off = ModelOutputs(reference.logits + np.float32(20), outputs.cams)
    result = certificate(bundle, folder(phantoms.images), reference, off, precision="int8")
    assert any(reason.startswith("logit_error is 0.") for reason in result.reasons)
    assert any(reason.startswith("logit_error_p95 is 0.") for reason in result.reasons)


def test_known_answers_are_those_of_the_certified_file(bundle):
    """A file may be further off on 24 phantoms than its precision may be on radiographs: it must stay as it was."""
    known: KnownAnswers = bundle.known_answers()
    variant = bundle.manifest.variants[0].model_copy(update={"precision": "int8"})
    figures = {"probability_change_p95": 0.0306, "map_correlation": 0.88, "flips": 0.0}
    certificates = tuple(c.model_copy(update={"known_answers": figures}) for c in bundle.manifest.certificates)
    limits = known_answer_limits(variant, known, bundle.manifest.model_copy(update={"certificates": certificates}))
    assert limits["probability_change_p95"] == pytest.approx(0.0306 + 0.015)
    assert limits["map_correlation"] == pytest.approx(0.88 - 0.05)
    worse = {"probability_change_p95": 0.9}
    failed = certificates[0].model_copy(update={"known_answers": worse, "verdict": "failed"})
    manifest = bundle.manifest.model_copy(update={"certificates": (*certificates, failed)})
    assert known_answer_limits(variant, known, manifest) == limits  # what was refused widens nothing
    unknown = known_answer_limits(variant, known, bundle.manifest.model_copy(update={"certificates": ()}))
    assert unknown["probability_change_p95"] == LIMITS["int8"]["probability_change_p95"]
