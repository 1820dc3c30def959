"""Models of torchxrayvision: the same logits and the same decisions as the library, without its calibration."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from conftest import redraw
from export.parity import interface_of

from xrt.export.compile import compile_source
from xrt.export.sources import Description, factory, torchxrayvision
from xrt.export.sources.factory import from_factory
from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import UsageError

xrv = pytest.importorskip("torchxrayvision")

NAN = float("nan")
NAMES = ["Mass", "", "Nodule", "Hernia", ""]
THRESHOLDS = [0.31, NAN, 0.62, NAN, 0.5]
SIZE = (64, 64)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return phantom_inputs(24, 3, Preprocessing(height=SIZE[0], width=SIZE[1])).images


def small(classes: int):
    return xrv.models.DenseNet(
        growth_rate=8, block_config=(2, 2), num_init_features=8, num_classes=classes, weights=None
    )


@pytest.fixture(scope="module")
def named_model(images):
    """A small DenseNet of the library as its pretrained ones are: named classes, empty names, thresholds, NaN."""
    torch.manual_seed(0)
    model = small(len(NAMES))
    redraw(model, images, 1)
    settle_logits(model, images)
    model.pathologies = model.targets = NAMES
    model.op_threshs = torch.tensor(THRESHOLDS)
    return model.eval()


@pytest.fixture
def model(named_model):
    return copy.deepcopy(named_model)


def library_input(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([xrv.utils.normalize(image, 255) for image in images]))


def library_logits(model, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.classifier(model.features2(library_input(images))).numpy()


def logits_of_the_graph(source, images: np.ndarray) -> np.ndarray:
    explained_model = compile_source(source)
    with OnnxRuntimeCpu().open(
        explained_model.data, interface_of(explained_model, source), SessionOptions()
    ) as session:
        return session.infer(images).logits


def settle_logits(model, images: np.ndarray) -> None:
    """Centre the logits at the threshold of one half and scale them, so that decisions differ between images."""
    logits = torch.from_numpy(library_logits(model, images))
    with torch.no_grad():
        model.classifier.weight /= logits.std(0)[:, None]
        model.classifier.bias -= logits.mean(0) / logits.std(0)


def source_of(model, **options):
    return torchxrayvision.source_of(model, "test:model", None, Description(input_size=SIZE, **options), ())


def test_the_models_are_recognised(model):
    assert torchxrayvision.is_torchxrayvision(model)
    assert not torchxrayvision.is_torchxrayvision(torch.nn.Linear(1, 1))


def test_logits_and_decisions_are_the_librarys(model, images):
    source = source_of(model)
    assert [c.name for c in source.classes] == ["Mass", "Nodule", "Hernia"]
    assert [c.threshold for c in source.classes] == [pytest.approx(0.31), pytest.approx(0.62), None]
    notes = " | ".join(source.notes)
    assert "2 of its 5 outputs have no name and are left out" in notes
    assert "no operating threshold, so never a finding: Hernia" in notes

    indices = [0, 2, 3]
    logits, expected = logits_of_the_graph(source, images), library_logits(model, images)[:, indices]
    # The limit. Both are fp32; the scale of ±1024 is applied in another order.
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())

    with torch.no_grad():
        library_scores = model(library_input(images)).numpy()[:, indices]
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for column, spec in enumerate(source.classes):
        if spec.threshold is None:
            assert (library_scores[:, column] == 0.5).all()
            continue
        theirs = library_scores[:, column] >= 0.5
        assert 0 < theirs.sum() < len(images), "decisions must differ between images"
        assert ((probabilities[:, column] >= spec.threshold) == theirs).all()


@pytest.mark.parametrize("threshold", [0.0004403434, 0.31, 0.5, 0.98])
def test_the_calibration_puts_the_threshold_at_one_half(threshold):
    p = torch.tensor([[0.0], [threshold / 2], [threshold - 1e-5], [threshold], [threshold + 1e-5], [1.0]])
    t = torch.tensor([threshold])
    assert torch.equal(xrv.models.op_norm(p, t) >= 0.5, p >= t)


def test_a_model_with_a_sigmoid_and_no_thresholds(model, images):
    model.op_threshs, model.apply_sigmoid = None, True
    model.pathologies = model.targets = ["a", "b", "c", "d", "e"]
    source = source_of(model)
    assert [c.threshold for c in source.classes] == [0.5] * 5
    with torch.no_grad():
        theirs = model(library_input(images)).numpy()
    expected = library_logits(model, images)
    assert (theirs <= 1).all(), "the library applies its sigmoid"
    np.testing.assert_allclose(
        logits_of_the_graph(source, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )


def test_the_model_itself_is_left_as_it_was(model, images):
    model.input_resolution = 64
    with torch.no_grad():
        before = model(library_input(images))
        source_of(model)
        assert torch.equal(model(library_input(images)), before)


def test_labels_rename_the_named_outputs(model):
    assert [c.name for c in source_of(model, labels=("A", "B", "C")).classes] == ["A", "B", "C"]
    with pytest.raises(UsageError, match="2 --labels for 3 classes"):
        source_of(model, labels=("A", "B"))


def test_names_of_another_number_of_classes_are_not_used():
    """A model of five classes has the library's eighteen default names."""
    source = source_of(small(5).eval())
    assert source.logits == 5
    assert "it names 18 classes and gives 5 logits: its names are not used" in source.notes


def test_names_may_be_missing_at_the_end_alone(model, images):
    """As in the library's own `nih` weights."""
    model.pathologies = model.targets = ["a", "b", "c", "", ""]
    expected = library_logits(model, images)[:, :3]
    logits = logits_of_the_graph(source_of(model), images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_one_class():
    model = small(1).eval()
    model.pathologies = ["Pneumonia"]
    model.op_threshs = torch.tensor([0.3])
    source = source_of(model)
    assert source.task == "binary"
    assert [c.name for c in source.classes] == ["no Pneumonia", "Pneumonia"]
    assert source.classes[1].threshold == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"op_threshs": torch.tensor([0.5, 0.5])}, "2 operating thresholds for 5 classes"),
        ({"op_threshs": torch.full((5,), NAN)}, "all operating thresholds of test:model are NaN"),
        ({"op_threshs": torch.full((5,), 1.5)}, "the operating threshold 1.5: they are probabilities"),
        ({"pathologies": [""] * 5, "targets": [""] * 5}, "none of its outputs a name"),
    ],
)
def test_what_is_refused(model, changes, message):
    for name, value in changes.items():
        setattr(model, name, value)
    with pytest.raises(UsageError, match=message):
        source_of(model)


@pytest.mark.parametrize("with_thresholds", [True, False])
def test_a_state_dict_with_and_without_thresholds(model, tmp_path, monkeypatch, with_thresholds):
    """The library's files hold none, a saved state dict of its finished model does."""
    state = {f"module.{n}": t for n, t in model.state_dict().items() if with_thresholds or n != "op_threshs"}
    torch.save(state, tmp_path / "w.pth")
    fresh = small(len(NAMES))
    fresh.pathologies = fresh.targets = NAMES
    fresh.op_threshs = None if with_thresholds else torch.tensor(THRESHOLDS)
    monkeypatch.setattr(factory, "_from_module", lambda module, attribute: fresh)
    source = from_factory("mine:make", Description(weights=str(tmp_path / "w.pth"), input_size=SIZE))
    assert [c.threshold for c in source.classes] == [pytest.approx(0.31), pytest.approx(0.62), None]
    assert not [note for note in source.notes if "no place for" in note]


@pytest.mark.slow
def test_the_whole_densenet_at_its_own_size(tmp_path):
    """`torchxrayvision:NAME` with a local file: its labels, its thresholds and its size, without a download."""
    inputs = phantom_inputs(8, 3, Preprocessing(height=224, width=224)).images
    torch.manual_seed(0)
    model = xrv.models.DenseNet(weights=None)
    redraw(model, inputs, 1)
    torch.save(model.eval().state_dict(), tmp_path / "w.pth")
    source = from_factory("torchxrayvision:densenet121-res224-nih", Description(weights=str(tmp_path / "w.pth")))
    assert (source.logits, source.preprocessing.height) == (14, 224)
    expected = library_logits(model, inputs)[:, :14]
    logits = logits_of_the_graph(source, inputs)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
