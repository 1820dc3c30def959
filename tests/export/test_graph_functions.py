"""`gradients` and `explain`, as a user of ONNX files alone calls them, against torch's autograd in float64."""

from __future__ import annotations

import copy
import io

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
import torch
from conftest import redraw
from torchvision import models

from xrt.export.graph_functions import explain, gradients
from xrt.runtime.bundle.manifest import Preprocessing
from xrt.runtime.certification.inputs import phantom_inputs
from xrt.runtime.errors import ModelError, UsageError

SIDE = 64
# Architecture and the module that is asked for: residual, depthwise and shuffled blocks, squeeze and excite, attention.
FAST = {
    "resnet18": "layer4",
    "mobilenet_v3_small": "features",
    "timm:test_vit": "blocks.4",
    "timm:test_convnext": "stages.2",
}
SLOW = {
    "shufflenet_v2_x0_5": "stage3",
    "resnet50": "layer3",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "swin_t": "features",
    "vit_b_16": "encoder.layers.encoder_layer_10",
}
ARCHITECTURES = [*FAST.items(), *(pytest.param(*item, marks=pytest.mark.slow) for item in SLOW.items())]


def network(name: str) -> torch.nn.Module:
    """A network of five classes whose weights and statistics let signals through."""
    torch.manual_seed(0)
    if name.startswith("timm:"):
        size = {"img_size": SIDE} if "vit" in name else {}
        module = pytest.importorskip("timm").create_model(name.removeprefix("timm:"), num_classes=5, **size)
    elif name.startswith("vit"):
        module = models.get_model(name, num_classes=5, image_size=SIDE)
    else:
        module = models.get_model(name, num_classes=5)
    redraw(module, phantom_inputs(6, 1, Preprocessing(height=SIDE, width=SIDE)).images, 3)
    return module.eval()


def as_onnx(module: torch.nn.Module, channels: int = 3) -> onnx.ModelProto:
    """What torch's exporter writes, with a dynamic batch."""
    example = torch.zeros(2, channels, SIDE, SIDE)
    program = torch.onnx.export(
        module, (example,), dynamo=True, output_names=["logits"], input_names=["pixels"], opset_version=18,
        dynamic_shapes=({0: torch.export.Dim("n", min=1)},), external_data=False, verbose=False,
    )  # fmt: skip
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    return onnx.load_from_string(file.getvalue())


def images(count: int, channels: int = 3) -> np.ndarray:
    pixels = phantom_inputs(count, 4, Preprocessing(height=SIDE, width=SIDE)).images
    return np.repeat(pixels.astype(np.float32) / 255, channels, axis=1)


def run(model: onnx.ModelProto, pixels: np.ndarray, names: list[str]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {model.graph.input[0].name: pixels})


def autograd(module: torch.nn.Module, pixels: np.ndarray, layer: str | None) -> np.ndarray:
    """Gradients of every logit in float64, [classes, n, *shape], at a layer's output or at the input."""
    module = copy.deepcopy(module).double()
    x = torch.from_numpy(pixels).double().requires_grad_()
    activations = [x]
    if layer is not None:

        def keep(_module, _inputs, output):
            activations.append(output)
            return output.clone()  # an activation in place must not change what is stored

        module.get_submodule(layer).register_forward_hook(keep)
    logits = module(x)
    rows = [torch.autograd.grad(column.sum(), activations[-1], retain_graph=True)[0] for column in logits.T]
    return torch.stack(rows).numpy()


@pytest.mark.parametrize(("name", "layer"), ARCHITECTURES)
def test_gradients_are_those_of_float64(name, layer):
    module = network(name)
    result = gradients(as_onnx(module), of="logits", wrt=[layer])
    assert [output.name for output in result.graph.output] == ["logits", f"grad.{layer}"]
    for count in (1, 3):
        pixels = images(count)
        logits, ours = run(result, pixels, ["logits", f"grad.{layer}"])
        expected = autograd(module, pixels, layer)
        assert ours.dtype == np.float32
        assert ours.shape == expected.shape == (5, count, *expected.shape[2:])
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(logits, module(torch.from_numpy(pixels)).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_a_gradient_at_the_input():
    """Through a network without kinks, where float32 and float64 see the same derivative."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 6, 5, 2, 2), torch.nn.SiLU(), torch.nn.BatchNorm2d(6), torch.nn.Conv2d(6, 8, 3, 2, 1),
        torch.nn.GELU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(32, 3),
    ).eval()  # fmt: skip
    pixels = images(4, 1)
    result = gradients(as_onnx(module, 1), wrt=["pixels", "3"])
    at_input, inside = run(result, pixels, ["grad.pixels", "grad.3"])
    for ours, expected in ((at_input, autograd(module, pixels, None)), (inside, autograd(module, pixels, "3"))):
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


TWO_OUTPUTS = """
<ir_version: 9, opset_import: ["" : 17]>
model (float[n,2,8,8] x) => (float[n,3] logits, float[n,4,8,8] features) <float[4,2,3,3] w, float[4,3] v>
{
    features = Conv <pads=[1,1,1,1]> (x, w)
    squared = Mul (features, features)
    pooled = GlobalAveragePool (squared)
    flat = Flatten <axis=1> (pooled)
    logits = MatMul (flat, v)
    parity = Mod <fmod=1> (features, features)
    other = ReduceSum <keepdims=0> (parity)
}
"""


@pytest.fixture
def small() -> onnx.ModelProto:
    """A file of opset 17 with two outputs, and an operator without a rule, on which the logits do not depend."""
    model = onnx.parser.parse_model(TWO_OUTPUTS)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 2, 3, 3)), ("v", (4, 3))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return model


def test_any_tensor_of_any_file(small):
    """logits = mean(f²) v: the gradient at f is 2 f v / 64, and the outputs that were there stay."""
    before = small.SerializeToString()
    result = gradients(small, wrt=["features", "flat"])
    assert small.SerializeToString() == before, "the model that was given is not changed"
    assert [o.name for o in result.graph.output] == ["logits", "features", "grad.features", "grad.flat"]
    assert result.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    x = np.random.default_rng(1).normal(size=(5, 2, 8, 8)).astype(np.float32)
    features, at_features, at_flat = run(result, x, ["features", "grad.features", "grad.flat"])
    (v,) = (onnx.numpy_helper.to_array(t) for t in small.graph.initializer if t.name == "v")
    expected = 2 * features[None] * v.T[:, None, :, None, None] / 64
    np.testing.assert_allclose(at_features, expected, rtol=1e-5, atol=1e-6)
    # Constant over the batch, and given for every image all the same.
    np.testing.assert_allclose(at_flat, np.broadcast_to(v.T[:, None], (3, 5, 4)), rtol=1e-6)


def test_a_gradient_of_another_tensor(small):
    result = gradients(small, of="pooled", wrt=["squared"])
    (at_squared,) = run(result, np.ones((2, 2, 8, 8), np.float32), ["grad.squared"])
    np.testing.assert_allclose(at_squared, np.broadcast_to(np.eye(4)[:, None, :, None, None] / 64, at_squared.shape))


@pytest.mark.parametrize(
    ("of", "wrt", "message"),
    [
        ("logits", ["nothing"], "the graph has no tensor 'nothing'; its outputs are logits, features"),
        ("scores", ["features"], "the graph has no tensor 'scores'"),
        ("logits", ["w"], "'w' is a weight"),
        ("logits", ["parity"], "'parity' does not reach 'logits'"),
        ("squared", ["x"], r"'squared' has the shape \[n, 4, 8, 8\], not \[n, classes\]"),
        ("other", ["x"], "the output is a single number"),
    ],
)
def test_what_cannot_be_is_named(small, of, wrt, message):
    with pytest.raises(ModelError, match=message):
        gradients(small, of, wrt)


def test_an_operator_without_a_rule_is_named(small):
    node = next(node for node in small.graph.node if node.output[0] == "squared")
    node.op_type, node.name = "Mod", "the_node"
    node.attribute.add(name="fmod", i=1, type=onnx.AttributeProto.INT)
    node.input[1] = "shifted"
    small.graph.node.insert(1, onnx.helper.make_node("Exp", ["features"], ["shifted"]))
    with pytest.raises(ModelError, match="no gradient rule for operator Mod \\(node 'the_node'"):
        gradients(small, wrt=["features"])


def test_nothing_to_differentiate(small):
    with pytest.raises(UsageError, match="name one tensor or more in wrt"):
        gradients(small)


def test_explain_adds_heatmaps():
    """Grad-CAM of `cams`, made in numpy from the gradients that the same file gives."""
    module = network("shufflenet_v2_x0_5")
    model = as_onnx(module)
    pixels = images(3)
    result = explain(model, layers=["stage3"], method=["gradcam", "hirescam"])
    assert [o.name for o in result.graph.output] == ["logits", "cams", "cams.hirescam"]
    logits, cams, hires = run(result, pixels, ["logits", "cams", "cams.hirescam"])
    both = gradients(model, wrt=["stage3"])
    stage = explain_input(both, "grad.stage3", module, pixels)
    activation, gradient = stage
    weights = gradient.mean(axis=(3, 4), keepdims=True)
    for ours, factor in ((cams, weights), (hires, gradient)):
        expected = np.maximum((activation[None] * factor).sum(2), 0).transpose(1, 0, 2, 3)
        # fp32 sums of a few hundred products in another order.
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert logits.shape == (3, 5)
    assert cams.max() > 0


def explain_input(model, name, module, pixels):
    """The activation and its gradient: the one from torch, the other from the graph."""
    activations = []
    handle = module.get_submodule("stage3").register_forward_hook(lambda _, __, output: activations.append(output))
    module(torch.from_numpy(pixels))
    handle.remove()
    return activations[0].detach().numpy(), run(model, pixels, [name])[0]


def test_explain_some_classes(small):
    x = np.random.default_rng(1).normal(size=(5, 2, 8, 8)).astype(np.float32)
    logits, every = run(explain(small, layers=["features"]), x, ["logits", "cams"])
    (some,) = run(explain(small, layers=["features"], classes=[2, 0]), x, ["cams"])
    np.testing.assert_allclose(some, every[:, [2, 0]], rtol=1e-5, atol=1e-6)
    top, classes_of_maps = run(explain(small, layers=["features"], classes="top:1"), x, ["cams", "cam_classes"])
    assert (classes_of_maps[:, 0] == logits.argmax(1)).all()
    np.testing.assert_allclose(top[:, 0], every[np.arange(5), logits.argmax(1)], rtol=1e-5, atol=1e-6)
    for classes in ("some", "top:9", [], [3]):
        with pytest.raises(UsageError, match="classes"):
            explain(small, layers=["features"], classes=classes)


def test_explain_an_image_without_room(small):
    for value in (small.graph.input[0], small.graph.output[1]):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = 4
    with pytest.raises(ModelError, match="images of 4 × 4; heatmaps need 8 pixels or more a side"):
        explain(small)
