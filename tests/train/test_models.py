"""Models: logits of every architecture, last maps of `compact`, its Grad-CAM property, and starting weights."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from xrt.runtime.errors import ModelError
from xrt.train.models import ARCHITECTURES, CompactSpec, ModelSpec, build_model, start_at_prevalence
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
        torch.save(colour.state_dict(), file)
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
