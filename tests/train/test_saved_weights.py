"""Files of weights as people save them: several dictionaries, any key, one file or many."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch
from torch import nn

from xrt.runtime.errors import ModelError, UsageError
from xrt.train.models.saved_weights import read_weights, split_key
from xrt.train.models.state_dict import fit_state_dict


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"0.weight": torch.full((2, 3), value), "0.bias": torch.zeros(2)}


def value_of(saved) -> float:
    return float(saved.tensors["0.weight"][0, 0])


@pytest.fixture
def save(tmp_path):
    def write(content, name="w.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.mark.parametrize("key", ["ema", "params", "best_model_wts", "model_ema", "params_ema"])
def test_usual_keys(save, key):
    saved = read_weights(save({key: weights(2), "epoch": 3}))
    assert (value_of(saved), saved.note) == (2, None)


def test_the_only_dictionary_inside_is_taken_under_any_key(save):
    assert value_of(read_weights(save({"swa_averaged": weights(2), "epoch": 3}))) == 2
    assert value_of(read_weights(save({"run": {"final": weights(2)}, "epoch": 3}))) == 2


def test_of_several_one_is_taken_and_said(save):
    path = save({"model": weights(1), "ema": weights(2), "epoch": 3})
    saved = read_weights(path)
    assert value_of(saved) == 1
    assert saved.note == (
        "w.pth holds several dictionaries of weights: 'model' is taken, --weights w.pth:KEY names another (ema)"
    )
    assert value_of(read_weights(path, "ema")) == 2
    assert read_weights(path, "ema").note is None


def test_of_several_without_a_usual_key_one_must_be_named(save):
    path = save({"student_net": weights(1), "teacher_net": weights(2)})
    with pytest.raises(ModelError, match=r"several dictionaries .* --weights .*:student_net\|teacher_net"):
        read_weights(path)
    assert value_of(read_weights(path, "teacher_net")) == 2


def test_a_key_may_lead_inside(save):
    path = save({"ema": {"module": weights(2), "updates": 4}, "state_dict": weights(1)})
    assert value_of(read_weights(path, "ema.module")) == 2
    assert value_of(read_weights(path, "ema")) == 2
    with pytest.raises(UsageError, match=r"no dictionary of weights under 'best'; it has: ema\.module, state_dict"):
        read_weights(path, "best")


def test_a_colon_in_a_files_name(save, tmp_path):
    path = save(weights(1), "run:3.pth")
    assert split_key(str(path)) == (path, None)
    assert split_key(f"{path}:ema") == (path, "ema")
    assert split_key("C:\\none.pth")[1] is None
    assert split_key(str(tmp_path / "none.pth"))[1] is None


def test_a_folder_of_one_file(tmp_path):
    safetensors.torch.save_file(weights(2), tmp_path / "model.safetensors")
    saved = read_weights(tmp_path)
    assert value_of(saved) == 2
    assert saved.files == (tmp_path / "model.safetensors",)


def test_a_folder_of_several_files(tmp_path):
    whole = weights(2)
    for i, name in enumerate(whole):
        safetensors.torch.save_file({name: whole[name]}, tmp_path / f"model-{i}.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: f"model-{i}.safetensors" for i, name in enumerate(whole)}}))
    saved = read_weights(tmp_path)
    assert saved.tensors.keys() == whole.keys()
    assert len({saved.sha256, *(read_weights(file).sha256 for file in saved.files)}) == 3
    index.write_text(json.dumps({"weight_map": {"0.weight": "../elsewhere.safetensors"}}))
    with pytest.raises(ModelError, match=r"outside its folder \('\.\./elsewhere\.safetensors'\): nothing was loaded"):
        read_weights(tmp_path)
    index.write_text("[]")
    with pytest.raises(ModelError, match="is no index of weights"):
        read_weights(tmp_path)


def test_an_empty_folder_holds_none(tmp_path):
    with pytest.raises(ModelError, match="holds no weights: neither model.safetensors nor pytorch_model.bin"):
        read_weights(tmp_path)


class Renamed(nn.Sequential):
    """As networks whose layers had other names and shapes in earlier versions: they convert what they load."""

    def _load_from_state_dict(self, state_dict, prefix, *rest):
        if (old := state_dict.pop(f"{prefix}old_weight", None)) is not None:
            state_dict[f"{prefix}0.weight"] = old.T
        super()._load_from_state_dict(state_dict, prefix, *rest)


def hooked():
    module = nn.Sequential(nn.Linear(3, 2))

    def rename(state_dict, prefix, *_):
        if (old := state_dict.pop(f"{prefix}old_weight", None)) is not None:
            state_dict[f"{prefix}0.weight"] = old.T

    module._register_load_state_dict_pre_hook(rename)
    return module


@pytest.mark.parametrize("make", [lambda: Renamed(nn.Linear(3, 2)), hooked])
def test_what_a_module_converts_itself_is_converted(make):
    module = make()
    state = {"old_weight": torch.full((3, 2), 5.0), "0.bias": torch.ones(2)}
    assert fit_state_dict(module, state, "w.pth") == []
    assert torch.equal(module[0].weight, torch.full((2, 3), 5.0))
    with pytest.raises(ModelError, match=r"w\.pth lacks 1 of the model's 2 weights: 0\.bias"):
        fit_state_dict(make(), {"old_weight": torch.ones(3, 2)}, "w.pth")
