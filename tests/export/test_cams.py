"""Whole graphs against torch autograd at the same tensor: the networks that are trained here, at full size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from export.parity import interface_of

from xrt.export.compile import Request, compile_source
from xrt.export.sources import TorchSource
from xrt.runtime.backends import SessionOptions
from xrt.runtime.backends.onnxruntime import OnnxRuntimeCpu as OnnxRuntime
from xrt.runtime.bundle.manifest import ClassSpec, Manifest, Preprocessing
from xrt.runtime.certification.inputs import folder_inputs, phantom_inputs
from xrt.runtime.gate import LIMITS, judge, measure
from xrt.train.models import ModelSpec, Normalisation, build_model

CLASSES = tuple(ClassSpec(name=f"finding {i}") for i in range(14))
TARGETS = {
    "resnet18": ("layer4", 512, 7),
    "resnet50": ("layer4", 2048, 7),
    "densenet121": ("relu_120", 1024, 7),
    "efficientnet_b0": ("features", 1280, 7),
}


def source_of(module, size=224, channels=3, classes=CLASSES):
    return TorchSource(
        name="model",
        module=module.eval(),
        task="multilabel",
        classes=classes,
        explained_class=None,
        preprocessing=Preprocessing(height=size, width=size),
        normalisation=Normalisation(mean=(0.485, 0.456, 0.406)[:channels], std=(0.229, 0.224, 0.225)[:channels]),
        origin="test",
        sha256=None,
    )


def manifest_of(source, graph):
    """As much of a manifest as the gate needs."""
    return Manifest.model_construct(task=source.task, classes=source.classes, graph=graph)


@pytest.fixture(scope="module")
def images(request):
    spec = Preprocessing(height=224, width=224)
    try:
        shared = request.getfixturevalue("shared")
    except pytest.skip.Exception:
        return phantom_inputs(7, 0, spec).images
    return folder_inputs(shared / "xrays" / "nih" / "images", spec, limit=7).images


@pytest.mark.parametrize("architecture", TARGETS)
def test_the_graph_agrees_with_autograd(architecture, images):
    from conftest import redraw

    torch.manual_seed(1)
    module = build_model(ModelSpec(architecture=architecture, channels=3), len(CLASSES))
    redraw(module, images, 3)
    source = source_of(module)
    model = compile_source(source)
    cam = model.graph.cams[0]
    assert (cam.layer, cam.channels, cam.height) == TARGETS[architecture]
    expected = model.reference.outputs(images)
    manifest = manifest_of(source, model.graph)
    for batch_size in (1, 7):
        with OnnxRuntime().open(model.data, interface_of(model, source), SessionOptions()) as session:
            figures = measure(expected, session.infer_all(images, batch_size), manifest)
        assert judge(figures, LIMITS["fp32"], enough=False) == ("passed", ())
        assert figures.maps_nonzero >= 0.5


class Residual(torch.nn.Module):
    """Few channels, but every kind of tail: strided and grouped convolutions, pooling, gates, a two-layer head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, 8, 3, 2, 1)
        self.layer1 = torch.nn.Sequential(torch.nn.Conv2d(8, 12, 3, 2, 1), torch.nn.BatchNorm2d(12), torch.nn.ReLU())
        self.layer2 = torch.nn.Sequential(
            torch.nn.Conv2d(12, 12, 3, 1, 1, groups=3), torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2, 1)
        )
        self.gate = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Conv2d(12, 12, 1), torch.nn.Sigmoid())
        self.head = torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))

    def forward(self, x):
        x = self.layer1(self.stem(x).relu())
        y = self.layer2(x) + torch.nn.functional.avg_pool2d(x, 2)
        y = y * self.gate(y)
        return self.head(y.mean((2, 3)))


def test_several_layers_of_a_tail_that_is_not_linear():
    torch.manual_seed(0)
    module = Residual().double().float()
    source = source_of(module, size=64, channels=1, classes=CLASSES[:3])
    model = compile_source(source, Request(("layer1", "layer2")))
    assert [c.output for c in model.graph.cams] == ["cams", "cams.layer2"]
    images = phantom_inputs(5, 3, source.preprocessing).images
    expected = model.reference.outputs(images)
    with OnnxRuntime().open(model.data, interface_of(model, source), SessionOptions()) as session:
        for size in (1, 5):
            outputs = session.infer_all(images, size)
            for name, cams in expected.cams.items():
                # fp32 on both sides, a dozen operators deep.
                assert np.abs(outputs.cams[name] - cams).max() <= 2e-5 * cams.max()
                assert (cams.max(axis=(2, 3)) > 0).mean() >= 0.5


def test_a_negative_class_is_explained_by_the_negated_logit(compact_source):
    from conftest import redraw

    module = build_model(ModelSpec(architecture="compact", channels=1), 1)
    redraw(module, phantom_inputs(8, 1, compact_source.preprocessing).images, 1)
    classes = (ClassSpec(name="normal"), ClassSpec(name="ill"))
    source = replace(compact_source, module=module.eval(), task="binary", classes=classes)
    images = phantom_inputs(4, 3, source.preprocessing).images
    maps = []
    for explained in (0, 1):
        model = compile_source(replace(source, explained_class=explained))
        with OnnxRuntime().open(model.data, interface_of(model, source), SessionOptions()) as session:
            outputs = session.infer_all(images)
        assert np.abs(outputs.cams["cams"] - model.reference.outputs(images).cams["cams"]).max() < 1e-5
        maps.append(outputs.cams["cams"])
    # ReLU(s) and ReLU(-s) of the same sum: nowhere are both positive, and everywhere one is.
    assert (np.minimum(*maps) == 0).all()
    assert (np.maximum(*maps) > 0).mean() > 0.99
