"""Sources of models: what is assumed and noted, and what is refused."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from export.parity import run

from xrt.export.compile import compile_source
from xrt.export.ir import limits
from xrt.export.publish import publish_source
from xrt.export.sources import Description, factory, open_source
from xrt.export.sources.stated_preprocessing import StatedPreprocessing
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import ModelError, UsageError

CODE = """
import torch
from torch import nn

def make(classes=3, channels=1):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes)
    )

class Chest(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = make()
    def forward(self, x):
        return self.body(x)

class Zoo:
    @staticmethod
    def small():
        return make()

class WithAge(Chest):
    def forward(self, x, age):
        return self.body(x) + age

class Shares(Chest):
    def forward(self, x):
        return self.body(x).softmax(1)

class Squeezed(Chest):
    def forward(self, x):
        return self.body(x)[:, 0]

instance = make()
number = 3
binary = lambda: make(1)
colour = lambda: make(channels=3)
half = lambda: make().half()
parallel = lambda: nn.DataParallel(make())
compiled = lambda: torch.compile(make())
def scripted():
    return torch.jit.script(make())
lazy = lambda: nn.Sequential(nn.Conv2d(1, 4, 3, 8, 1), nn.Flatten(), nn.LazyLinear(3))
huge = lambda: nn.Linear(2**16, 2**14, device="meta")
hollow = lambda: nn.Linear(4, 4, device="meta")

def broken():
    raise RuntimeError("no such\\nfolder")

def picky(path):
    return make()

def nothing():
    return None

def not_finite():
    model = make()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    return model
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a module of a user's models, importable there and nowhere else."""
    (tmp_path / "chestmodels.py").write_text(CODE)
    (tmp_path / "brokenmodels.py").write_text("import torch\nraise ValueError('no licence')\n")
    (tmp_path / "badmodels.py").write_text("def make(:\n")
    (tmp_path / "scriptmodels.py").write_text("import sys\nsys.exit('usage: scriptmodels.py DATA')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("chestmodels", None)


SMALL = Description(input_size=(64, 64))


@pytest.mark.parametrize(
    "spec",
    [
        "chestmodels:make",
        "chestmodels:Chest",
        "chestmodels:Zoo.small",
        "chestmodels:instance",
        "chestmodels:parallel",
        "chestmodels:compiled",
    ],
)
def test_what_a_factory_may_be(spec):
    source = open_source(spec, SMALL)
    assert source.logits == 3
    assert not source.module.training
    assert source.origin == spec
    assert [c.name for c in source.classes] == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("nomodule:make", UsageError, r"cannot import 'nomodule': .*; run where it can be imported"),
        ("chestmodels:none", UsageError, "module 'chestmodels' has no 'none'"),
        ("chestmodels:Zoo.large", UsageError, r"has no 'Zoo\.large'"),
        ("chestmodels:number", UsageError, "neither a module nor a function"),
        ("chestmodels:broken", ModelError, r"chestmodels:broken\(\) failed: RuntimeError: no such; it is called"),
        ("chestmodels:picky", ModelError, r"picky\(\) failed: TypeError: .*'path'; it is called without arguments"),
        ("chestmodels:nothing", ModelError, r"nothing\(\) gave NoneType, not a torch\.nn\.Module"),
        ("chestmodels.py:make", UsageError, "is a path; give the name that Python imports: chestmodels:make"),
        ("./old/chestmodels.py:make", UsageError, r"imports: old\.chestmodels:make"),
        ("brokenmodels:make", ModelError, "importing 'brokenmodels' failed: ValueError: no licence"),
        ("badmodels:make", ModelError, "importing 'badmodels' failed: SyntaxError"),
        ("scriptmodels:make", ModelError, "importing 'scriptmodels' failed: SystemExit: usage"),
        ("chestmodels:scripted", ModelError, "chestmodels:scripted is TorchScript, which torch cannot trace: give its"),
        ("chestmodels:lazy", ModelError, r"lazy layer \(2\.weight\).*run it once"),
        ("chestmodels:hollow", ModelError, r"weights without numbers \(weight is on the meta device\)"),
        ("chestmodels:huge", ModelError, r"the weights of chestmodels:huge take 4\.0 GiB; one ONNX file holds 2 GiB"),
        ("torchvision:resnet19", UsageError, r"torchvision has no classifier 'resnet19': see torchvision\.models"),
        ("torchvision:fcn_resnet50", UsageError, "has no classifier"),
        ("timm:resnet19", UsageError, r"timm has no model 'resnet19': see timm\.list_models"),
        ("torchxrayvision:densenet", UsageError, "has no weights 'densenet'; it has densenet121-res224-all, "),
        ("runs/none", ModelError, r"runs/none is not there; a model is a run of `xrt train`, an \.onnx file, MODULE"),
        ("best.pth", ModelError, r"best\.pth is not there"),
        ("chestmodels.py", ModelError, r"chestmodels\.py is not a model; a model is a run of"),
        ("none.safetensors", ModelError, r"none\.safetensors is not there"),
        ("lost.onnx", ModelError, r"lost\.onnx is not there"),
    ],
)  # fmt: skip
def test_what_is_no_model(spec, error, message):
    with pytest.raises(error, match=message) as raised:
        open_source(spec, SMALL)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("Mass", "Nodule")}, "2 --labels for 3 classes"),
        ({"labels": ("Mass", "Nodule", "Mass")}, r"two --labels are the same \(Mass\)"),
        ({"labels": ("Mass", "", "Hernia")}, "one of the --labels is empty"),
        ({"mean": (0.5,)}, "--mean and --std belong together"),
        ({"std": (0.5,)}, "--mean and --std belong together"),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, "takes 1 channels; --mean has 3 values"),
        ({"mean": (0.5,), "std": (0.0,)}, "--std positive ones; given 0.5 and 0"),
        ({"mean": (float("nan"),), "std": (1.0,)}, "--mean takes finite numbers"),
        ({"mean": (0.5,), "std": (float("inf"),)}, "--mean takes finite numbers"),
        ({"task": "binary"}, "a binary model has one logit, this one has 3"),
        ({"input_size": (5000, 5000)}, "sides of 8 to 4096 pixels; given 5000 × 5000"),
        ({"weights": "pretrained"}, "only named models have pretrained weights"),
        ({"output": "logits"}, "gives one tensor: leave out --output"),
    ],
)
def test_a_description_that_does_not_fit(changes, message):
    with pytest.raises(UsageError, match=message):
        open_source("chestmodels:make", replace(SMALL, **changes))


def test_binary():
    source = open_source("chestmodels:binary", replace(SMALL, labels=("clear", "pneumonia")))
    assert (source.task, source.logits, source.explained_class) == ("binary", 1, 1)
    assert [c.name for c in source.classes] == ["clear", "pneumonia"]
    with pytest.raises(UsageError, match="names both its classes, the negative one first"):
        open_source("chestmodels:binary", replace(SMALL, labels=("pneumonia",)))
    with pytest.raises(UsageError, match="one logit is a binary model, not multilabel"):
        open_source("chestmodels:binary", replace(SMALL, task="multilabel"))


def test_what_is_taken_for_granted_is_said():
    notes = " | ".join(open_source("chestmodels:colour").notes)
    assert "images are taken to be 224 x 224" in notes
    assert "normalisation is taken to be mean 0.485,0.456,0.406" in notes
    assert "the classes are taken to be multilabel" in notes
    assert "assumed: interpolation bilinear, antialias true, fit stretch, equalisation none" in notes
    stated = StatedPreprocessing("bilinear", True, "stretch", equalisation="none")
    description = Description(input_size=(64, 64), mean=(0.5,), std=(0.25,), task="multilabel", preprocessing=stated)
    assert open_source("chestmodels:make", description).notes == ()
    assert "divide by 255" in open_source("chestmodels:make", replace(description, mean=(123.7,), std=(58.4,))).notes[0]


def test_weights_and_what_is_left_of_them(here):
    model = factory.from_factory("chestmodels:make", SMALL).module
    with torch.no_grad():
        model.get_parameter("4.weight").fill_(0.5)
    torch.save({f"module.{n}": t for n, t in {**model.state_dict(), "aux": torch.ones(1)}.items()}, here / "w.pth")
    source = open_source("chestmodels:make", replace(SMALL, weights="w.pth"))
    assert source.module.get_parameter("4.weight").eq(0.5).all()
    assert "w.pth has 1 weights that the model has no place for: aux" in source.notes
    assert source.sha256 is not None
    safetensors.torch.save_file(model.state_dict(), here / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        message = rf"{name} holds weights but no architecture: give MODULE:FACTORY.*--weights"
        with pytest.raises(UsageError, match=message):
            open_source(name)


def test_a_checkpoint_needs_no_description(here):
    (here / "run").mkdir()
    with pytest.raises(UsageError, match="has its own description: leave out --mean, --std"):
        open_source("run", Description(mean=(0.5,), std=(0.5,)))


def test_half_precision_becomes_single():
    source = open_source("chestmodels:half", SMALL)
    assert {p.dtype for p in source.module.parameters()} == {torch.float32}
    assert source.logits == 3


def test_a_model_of_several_inputs():
    with pytest.raises(ModelError, match=r"WithAge takes 2 inputs \(x, age\): a classifier takes one image; wrap"):
        compile_source(open_source("chestmodels:WithAge", SMALL))


def test_logits_without_an_axis_of_classes():
    source = open_source("chestmodels:Squeezed", replace(SMALL, labels=("clear", "pneumonia")))
    assert source.task == "binary"
    model = compile_source(source)
    images = phantom_inputs(3, 0, source.preprocessing).images
    assert model.reference.outputs(images).logits.shape == run(model, source, images).logits.shape == (3, 1)


def test_labels_for_another_number_of_logits():
    source = open_source("chestmodels:make", SMALL)
    with pytest.raises(UsageError, match=r"the model gives 3 logits for 2 classes: name as many with --labels"):
        compile_source(replace(source, classes=source.classes[:2]))


def test_a_softmax_at_the_end_makes_the_classes_exclusive():
    source = open_source("chestmodels:Shares", SMALL)
    assert source.task == "multiclass"
    with pytest.raises(UsageError, match="ends in a softmax, .*--task multiclass"):
        compile_source(replace(source, task="multilabel"))


def test_weights_that_are_not_finite():
    with pytest.raises(ModelError, match=r"weights are not finite: 0\.weight"):
        compile_source(open_source("chestmodels:not_finite", SMALL))


def test_weights_over_the_limit(monkeypatch):
    monkeypatch.setattr(limits, "MAX_WEIGHT_BYTES", 64)
    with pytest.raises(ModelError, match="take 0.0 GiB; one ONNX file holds 2 GiB"):
        open_source("chestmodels:make", SMALL)


def test_a_factory_becomes_a_bundle(here):
    source = open_source("chestmodels:make", replace(SMALL, labels=("Mass", "Nodule", "Hernia")))
    manifest = publish_source(source, here / "chest.xrt").bundle.manifest
    assert manifest.graph.cams[0].height == 8
    assert manifest.provenance.notes == source.notes


@pytest.mark.parametrize(("spec", "classes"), [("torchvision:resnet18", 2), ("timm:test_resnet", 2)])
def test_a_named_model(spec, classes):
    description = Description(labels=("Mass", "Nodule"), task="multilabel", input_size=(64, 64))
    source = open_source(spec, description)
    assert source.logits == classes
    assert f"{spec} has random weights" in source.notes[0]
    if spec.startswith("timm"):
        assert len(compile_source(source).graph.cams) == 1


def test_a_grey_model_of_timm():
    source = open_source("timm:test_resnet", Description(mean=(0.5,), std=(0.25,), labels=("Mass", "Nodule")))
    assert source.normalisation.mean == (0.5,)
    assert next(source.module.parameters()).shape[1] == 1


def test_weights_of_another_head(here):
    import timm

    torch.save(timm.create_model("test_resnet", num_classes=14).state_dict(), here / "w.pth")
    with pytest.raises(ModelError, match=r"is \[14, \d+\] and should be \[2, \d+\].*--labels"):
        open_source("timm:test_resnet", Description(weights="w.pth", labels=("Mass", "Nodule")))


def test_what_lies_beside_the_weights_is_read(tmp_path, monkeypatch):
    """A folder as Hugging Face saves it: labels and preprocessing are there, under their own names."""
    from torch import nn

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    safetensors.torch.save_file(module.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"id2label": {"0": "normal", "1": "pneumonia"}}')
    size = {"height": 48, "width": 48}
    config = {"size": size, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    monkeypatch.setitem(sys.modules, "beside", types.SimpleNamespace(make=lambda: module))
    source = open_source("beside:make", Description(weights=str(tmp_path), task="multilabel"))
    assert [c.name for c in source.classes] == ["normal", "pneumonia"]
    assert (source.preprocessing.height, source.preprocessing.interpolation) == (48, "bicubic")
    assert source.normalisation.mean == (0.5, 0.5, 0.5)
    assert any("labels are those of the config.json beside the weights: normal, pneumonia" in n for n in source.notes)
    stated = open_source("beside:make", Description(weights=str(tmp_path), task="multilabel", labels=("a", "b")))
    assert [c.name for c in stated.classes] == ["a", "b"]
