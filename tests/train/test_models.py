"""Models: logits of every architecture, last maps of `compact`, its Grad-CAM property, and starting weights."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from xrt.runtime.errors import ModelError
from xrt.train.models import (
    ARCHITECTURES,
    CompactSpec,
    HeadSpec,
    ModelSpec,
    architecture_of,
    build_model,
    head_path,
    last_block,
    logit_weight,
    start_at_prevalence,
)
from xrt.train.models.compact import Compact
from xrt.train.models.pooling import LogSumExpPool


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 5)])
def test_logits(architecture: str, channels: int, classes: int) -> None:
    torch.manual_seed(0)
    spec = ModelSpec.model_validate({"architecture": architecture, "channels": channels})
    model = build_model(spec, classes, (64, 64))
    # Torchvision's vision transformer starts with a head of zeros.
    for name, parameter in model.named_parameters():
        if name == "heads.head.weight":
            nn.init.normal_(parameter)
    # Batch norm must have seen images once: with its initial statistics the deeper layers are almost silent.
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    images = torch.randn(3, channels, 64, 64)
    with torch.inference_mode():
        model(images)
        logits = model.eval()(images)
    assert logits.shape == (3, classes)
    assert torch.isfinite(logits).all()
    assert logits.std(dim=0).min() > 0, "the image must matter"


@pytest.mark.parametrize(("side", "widths", "halvings", "last"), [(28, (8, 8, 8), 2, 7), (128, (4, 4, 4, 8), 3, 16)])
def test_last_map_of_compact(side: int, widths: tuple[int, ...], halvings: int, last: int) -> None:
    spec = CompactSpec(widths=widths, blocks=(0,) * (len(widths) - 1) + (1,), halvings=halvings)
    assert Compact(spec, 1, 2, 0.0).features(torch.zeros(1, 1, side, side)).shape == (1, 8, last, last)


@pytest.mark.parametrize("pooling", ["average", "lse"])
def test_grad_cam_of_compact_is_its_cam(pooling: str) -> None:
    torch.manual_seed(0)
    spec = CompactSpec.model_validate({"widths": (4, 6, 8), "pooling": pooling})
    model = Compact(spec, 1, 3, 0.0).double().eval()
    activation = model.features(torch.randn(2, 1, 28, 28, dtype=torch.float64)).detach().requires_grad_()
    for index in range(3):
        logit = model.classifier(model.pool(activation).flatten(1))[:, index].sum()
        (gradient,) = torch.autograd.grad(logit, activation)
        # The derivatives of the pooling add up to 1 over 49 positions; float64, so only the last digits
        # differ.
        expected = (model.classifier.weight[index] / 49).expand(2, 8)
        torch.testing.assert_close(gradient.mean(dim=(2, 3)), expected, rtol=1e-10, atol=0)


def test_log_sum_exp_pool_lies_between_mean_and_maximum() -> None:
    x = torch.rand(2, 3, 5, 5, dtype=torch.float64) * 4
    mean, peak = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    pooled = LogSumExpPool(3.0)(x)
    assert ((mean < pooled) & (pooled < peak)).all()
    torch.testing.assert_close(LogSumExpPool(1e-6)(x), mean, rtol=1e-4, atol=0)  # first order in r
    expected = torch.log(torch.exp(3 * x).mean(dim=(2, 3), keepdim=True)) / 3
    torch.testing.assert_close(pooled, expected)
    assert torch.isfinite(LogSumExpPool(10.0)(x * 1000)).all()


def test_start_at_prevalence() -> None:
    spec = ModelSpec(dropout=0.5)
    model = build_model(spec, 2)
    start_at_prevalence(model, spec, torch.tensor([[0.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(model.get_parameter("classifier.bias").sigmoid(), torch.tensor([0.25, 0.25]))


def test_unknown_architecture_lists_the_known() -> None:
    with pytest.raises(ModelError, match="unknown architecture 'vgg99'; known: compact, small_cnn, resnet18"):
        build_model(ModelSpec(architecture="vgg99"), 2)


def test_no_logits_are_refused() -> None:
    with pytest.raises(ModelError, match="at least one logit, not 0"):
        build_model(ModelSpec(), 0)


def test_compact_has_no_imagenet_weights() -> None:
    with pytest.raises(ModelError, match="no ImageNet weights"):
        build_model(ModelSpec(weights="imagenet"), 2)


def test_without_network_the_error_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(ModelError, match=r"cannot be downloaded .*model\.weights=PATH/resnet18-.*\.pth"):
        build_model(ModelSpec(architecture="resnet18", weights="imagenet"), 2)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_colour_weights_serve_a_grey_model(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    colour = build_model(ModelSpec(architecture="resnet18", channels=3), 1000)
    file = tmp_path / f"colour{suffix}"
    if suffix == ".pth":
        # As torch's DataParallel names them.
        torch.save({f"module.{name}": tensor for name, tensor in colour.state_dict().items()}, file)
    else:
        safetensors.torch.save_file(colour.state_dict(), file)
    grey = build_model(ModelSpec(architecture="resnet18", channels=1, weights=str(file)), 2)
    for model in (colour, grey):
        model.eval()
        model.get_submodule("")._modules["fc"] = nn.Identity()
    x = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        # Two orders of summation of the same products in float32.
        torch.testing.assert_close(grey(x), colour(x.expand(2, 3, 64, 64)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; give a file of weights"),
        (
            {"classifier.weight": torch.zeros(2, 128)},
            r"lacks \d+ of the model's \d+ weights: features",
        ),
        (["no", "tensors"], "holds something else than tensors by name"),
        (b"garbage", "cannot be read as weights"),
    ],
)
def test_bad_weight_files(tmp_path: Path, content: object, message: str) -> None:
    file = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(ModelError, match=message):
        build_model(ModelSpec(weights=str(file)), 2)


def test_weights_that_run_code_are_not_loaded(tmp_path: Path) -> None:
    class Mischief:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path(tmp_path / "ran").write_text, ("yes",))

    torch.save({"a": Mischief()}, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        build_model(ModelSpec(weights=str(tmp_path / "weights.pth")), 2)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "efficientnet_b0", "compact", "timm:resnet10t"])
@pytest.mark.parametrize("kind", ["linear", "lse", "mlp"])
def test_any_trunk_under_any_head(architecture: str, kind: str) -> None:
    torch.manual_seed(0)
    head = {"kind": kind, "transition": 24 if kind == "lse" else None, "hidden": 16}
    spec = ModelSpec.model_validate({"architecture": architecture, "head": head, "dropout": 0.5})
    model = build_model(spec, 3, (64, 64))
    maps = model.get_submodule("trunk")(torch.randn(2, 1, 64, 64))
    assert maps.ndim == 4
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 3)
    assert model.state_dict()[logit_weight(spec)[0]].shape[0] == 3
    if kind == "lse":
        assert model.get_submodule("head.transition").weight.shape == (24, maps.shape[1], 1, 1)


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "vgg16", "efficientnet_b0"])
def test_the_trunk_is_the_architectures_own(architecture: str) -> None:
    """Under a linear head it gives what the whole model gives."""
    torch.manual_seed(0)
    whole = build_model(ModelSpec(architecture=architecture, channels=3), 2, (64, 64)).eval()
    trunk = architecture_of(ModelSpec(architecture=architecture)).trunk
    assert trunk is not None
    seen: list[torch.Tensor] = []
    densenet = architecture == "densenet121"
    # What is pooled; DenseNet pools in its forward function.
    layer = whole.get_submodule("features" if densenet else "avgpool")
    layer.register_forward_hook(lambda _, inputs, output: seen.append(output if densenet else inputs[0]))
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        whole(x)
        expected = seen[0].clone()
        maps = trunk(whole).eval()(x)
    # The same modules in the same order.
    assert torch.equal(maps, torch.relu(expected) if densenet else expected)


def test_the_head_of_the_covid_study() -> None:
    """VGG16's maps of 299 px are 9 x 9; max-pooled by 2, flattened, 64, 4."""
    spec = ModelSpec.model_validate({"architecture": "vgg16", "channels": 3, "head": {"kind": "mlp"}})
    head = build_model(spec, 4, (299, 299)).get_submodule("head")
    assert [type(layer).__name__ for layer in head.children()] == [
        "MaxPool2d", "Flatten", "Linear", "ReLU", "Dropout", "Linear"
    ]  # fmt: skip
    assert head.get_submodule("hidden").weight.shape == (64, 512 * 4 * 4)
    assert head.get_submodule("classifier").weight.shape == (4, 64)


def test_the_small_network_of_the_third_study() -> None:
    model = build_model(ModelSpec(architecture="small_cnn", dropout=0.5), 1, (224, 224))
    widths = [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    lines = [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert (widths, lines) == ([32, 64, 128], [(128 * 28 * 28, 128), (128, 1)])
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.5]


def test_heads_that_do_not_fit() -> None:
    with pytest.raises(ModelError, match="vit_b_16 has no last map for another head"):
        build_model(ModelSpec(architecture="vit_b_16", head=HeadSpec(kind="linear")), 2, (224, 224))
    with pytest.raises(ModelError, match="which is no map"):
        build_model(ModelSpec(architecture="timm:vit_tiny_patch16_224", head=HeadSpec(kind="linear")), 2, (224, 224))
    with pytest.raises(ModelError, match="last map is 2 x 2, smaller than the head's pooling of 3"):
        build_model(ModelSpec(architecture="resnet18", head=HeadSpec(kind="mlp", pool=3)), 2, (64, 64))
    with pytest.raises(ModelError, match="square images whose side is a multiple of 16, not 64 x 80"):
        build_model(ModelSpec(architecture="vit_b_16"), 2, (64, 80))
    with pytest.raises(ModelError, match=r"another head depends on the size of the images"):
        build_model(ModelSpec(architecture="resnet18", head=HeadSpec(kind="linear")), 2)


def test_timm_models() -> None:
    spec = ModelSpec(architecture="timm:vit_tiny_patch16_224", channels=1)
    assert build_model(spec, 5, (64, 64))(torch.zeros(1, 1, 64, 64)).shape == (1, 5)
    assert head_path(spec) == "head"
    with pytest.raises(ModelError, match=r"timm has no model 'resnet51'; near it: "):
        build_model(ModelSpec(architecture="timm:resnet51"), 2)


def test_timm_weights_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = build_model(ModelSpec(architecture="timm:resnet10t", channels=3), 1000)
    safetensors.torch.save_file(donor.state_dict(), tmp_path / "model.safetensors")
    spec = ModelSpec(architecture="timm:resnet10t", channels=1, weights=str(tmp_path / "model.safetensors"))
    model = build_model(spec, 2)
    assert torch.equal(model.get_parameter("layer1.0.conv1.weight"), donor.get_parameter("layer1.0.conv1.weight"))


def test_without_network_timm_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def refuse(*_: object, **options: object) -> None:
        raise OSError("no route to the hub")

    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, **o: refuse() if o.get("pretrained") else create(*a, **o))
    message = r"timm:resnet18 cannot be downloaded \(no route to the hub\)\. Fetch model\.safetensors of timm/resnet18"
    with pytest.raises(ModelError, match=message):
        build_model(ModelSpec(architecture="timm:resnet18", weights="imagenet"), 2)


def test_a_transformers_places_are_interpolated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    donor = build_model(ModelSpec(architecture="vit_b_16", channels=3), 2, (32, 32))
    torch.save(donor.state_dict(), tmp_path / "vit.pth")
    spec = ModelSpec(architecture="vit_b_16", channels=3, weights=str(tmp_path / "vit.pth"))
    model = build_model(spec, 2, (64, 64))
    places, before = (m.get_parameter("encoder.pos_embedding") for m in (model, donor))
    assert places.shape == (1, 17, 768)
    assert torch.equal(places[:, 0], before[:, 0])


def test_last_blocks_exist_and_hold_the_last_convolution_of_the_trunk() -> None:
    for name, entry in ARCHITECTURES.items():
        if not entry.last_block:
            continue
        spec = ModelSpec(architecture=name)
        model = build_model(spec, 2, (64, 64))
        inside = {id(m) for path in last_block(spec) for m in model.get_submodule(path).modules()}
        body = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.MultiheadAttention)]
        assert id(body[-1]) in inside, name
        assert id(body[0]) not in inside, name


def test_an_architecture_without_named_blocks() -> None:
    with pytest.raises(ModelError, match="last block of compact is not named"):
        last_block(ModelSpec())
