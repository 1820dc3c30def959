"""State dicts of any age find their place in a module, and what cannot is refused in one line."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from xrt.runtime.errors import ModelError
from xrt.train.models.saved_weights import read_state_dict
from xrt.train.models.state_dict import fit_state_dict


def small() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
            classifier=nn.Linear(4, 2),
        )
    )


def small_densenet() -> nn.Module:
    return torchvision.models.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=2)


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return small().state_dict()


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def assert_loaded(module: nn.Module, state: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "best": 0.91},
        lambda state: {"model_state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}},
        lambda state: {"checkpoint": 1, "model": {"state_dict": state}},
        lambda state: {"args": argparse.Namespace(lr=1e-3, arch="small"), "net": state},
        lambda state: {"score": np.float64(0.9), "step": np.int64(7), "curve": np.ones(3, np.float32), "model": state},
    ],
)
def test_weights_are_found_among_their_company(tmp_path, state, nest):
    module = small()
    assert fit_state_dict(module, read_state_dict(saved(tmp_path / "w.pth", nest(state))), "w.pth") == []
    assert_loaded(module, state)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "_orig_mod.module.", "net.backbone."])
def test_a_gained_prefix_is_taken_off(state, prefix):
    module = small()
    assert fit_state_dict(module, {prefix + name: tensor for name, tensor in state.items()}, "w.pth") == []
    assert_loaded(module, state)


def test_a_lost_prefix_is_put_on(state):
    wrapped = nn.ModuleDict({"model": small()})
    assert fit_state_dict(wrapped, state, "w.pth") == []
    assert_loaded(wrapped["model"], state)


def test_a_prefix_of_most_names_alone(state):
    """A Lightning checkpoint: the model's names have a prefix, the loss and the metrics have others."""
    lightning = {f"model.{name}": tensor for name, tensor in state.items()}
    lightning |= {"criterion.weight": torch.ones(2), "auroc.threshold": torch.ones(1)}
    module = small()
    assert fit_state_dict(module, lightning, "last.ckpt") == ["criterion.weight", "auroc.threshold"]
    assert_loaded(module, state)


def test_old_names_of_densenet():
    new = small_densenet().state_dict()
    old = {}
    for name, tensor in new.items():
        for kind in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{kind}.", f".{kind[:-1]}.{kind[-1]}.")
        old[f"module.{name}"] = tensor
    assert any(".denselayer1.norm.1.weight" in name for name in old)
    module = small_densenet()
    assert fit_state_dict(module, old, "2017.pth") == []
    assert_loaded(module, new)


def test_a_second_layer_of_a_sequential_keeps_its_name():
    """`conv.1` is an old DenseNet's convolution only inside a `denselayer`; here it is MobileNet's own."""
    model = torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=2)
    state = model.state_dict()
    assert any(".conv.1." in name for name in state)
    assert fit_state_dict(torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=2), state, "w.pth") == []


def test_many_modules_at_the_top_level():
    """Each is a prefix that several names share: not every pair of them may be tried."""
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(300)))
    assert fit_state_dict(model, {f"module.{n}": t for n, t in model.state_dict().items()}, "w.pth") == []


def test_extra_state_of_a_module_is_no_weight(state):
    class WithState(nn.Module):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            pass

    module = small()
    module.add_module("extra", WithState())
    assert fit_state_dict(module, state, "w.pth") == []


def test_left_over_names_are_listed(state):
    state |= {"aux.weight": torch.ones(3), "aux.bias": torch.ones(1)}
    assert fit_state_dict(small(), state, "w.pth") == ["aux.weight", "aux.bias"]


def test_counters_of_batches_may_be_missing(state):
    del state["features.1.num_batches_tracked"]
    assert fit_state_dict(small(), state, "w.pth") == []


def test_missing_weights_are_named(state):
    del state["classifier.bias"]
    state["head.bias"] = torch.ones(2)
    with pytest.raises(
        ModelError, match=r"lacks 1 of the model's 9 weights: classifier\.bias; .*left over: head\.bias"
    ):
        fit_state_dict(small(), state, "w.pth")


def test_misshaped_weights_are_named(state):
    state["classifier.weight"] = torch.ones(14, 4)
    with pytest.raises(ModelError, match=r"classifier\.weight is \[14, 4\] and should be \[2, 4\]; .*--labels"):
        fit_state_dict(small(), state, "w.pth")


def test_another_architecture(state):
    with pytest.raises(ModelError, match=r"lacks \d+ of the model's .* and \d+ more; .*same architecture"):
        fit_state_dict(small_densenet(), state, "w.pth")


class Trap:
    """Makes a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_does_not_run(tmp_path, state, zipped):
    marker = tmp_path / "the code ran"
    content = {"state_dict": state, "trap": Trap(marker)}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"pickled Python objects.*nothing was loaded.*state_dict\(\), NEW"):
        read_state_dict(tmp_path / "w.pth")
    assert not marker.exists()
    torch.load(tmp_path / "w.pth", weights_only=False)
    assert marker.exists(), "the trap must work, or its silence proves nothing"


def test_a_pickled_module_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"a whole module perhaps.*Where the file is trusted"):
        read_state_dict(saved(tmp_path / "whole.pth", small()))


def test_a_plain_pickle_is_refused(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(pickle.dumps(Trap(tmp_path / "the code ran")))
    with pytest.raises(ModelError, match=r"w\.bin"):
        read_state_dict(path)
    assert not (tmp_path / "the code ran").exists()


def test_torchscript(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.script(small()).save(str(path))
    with pytest.raises(ModelError, match=r"TorchScript archive: .*torch\.jit\.load"):
        read_state_dict(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path, state, share, zipped):
    path = tmp_path / "cut.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ModelError, match=r"cut\.pth cannot be read as weights: \S.*") as raised:
        read_state_dict(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_another_kind(tmp_path, suffix):
    path = tmp_path / f"notes{suffix}"
    path.write_text("weights are on the other disk\n" * 20)
    with pytest.raises(ModelError, match="cannot be read as weights"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, [1, 2], {"epoch": 3}, torch.ones(3)])
def test_a_file_without_weights(tmp_path, content):
    with pytest.raises(ModelError, match="holds something else than tensors by name"):
        read_state_dict(saved(tmp_path / "empty.pth", content))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"weights file .*none\.pth does not exist; give a file"):
        read_state_dict(tmp_path / "none.pth")


def test_safetensors(tmp_path, state):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(state, path)
    module = small()
    assert fit_state_dict(module, read_state_dict(path), "w") == []
    assert_loaded(module, state)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ModelError, match="cannot be read as weights"):
        read_state_dict(path)


def test_half_precision_is_widened(state):
    module = small()
    fit_state_dict(module, {name: t.half() if t.is_floating_point() else t for name, t in state.items()}, "w")
    weight = module.get_parameter("classifier.weight")
    assert weight.dtype == torch.float32
    # Half precision keeps 11 bits.
    torch.testing.assert_close(weight, state["classifier.weight"], rtol=2**-10, atol=1e-6)
