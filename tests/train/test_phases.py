"""Fine-tuning in phases: what learns, what stays to the bit, and which rate applies when."""

from __future__ import annotations

import csv
from pathlib import Path

import lightning
import pytest
import torch
from torch import nn

from xrt.runtime.errors import UsageError
from xrt.train.checkpoint import load_checkpoint
from xrt.train.models import ModelSpec, build_model
from xrt.train.recipes.loader import load_recipe
from xrt.train.recipes.spec import Recipe
from xrt.train.training.fit import fit
from xrt.train.training.phases import Phases, module_paths

HEAD_ONLY = "training.phases=[{epochs: 1, lr: 0.01, train: [head]}]"


def recipe(phases: list[dict[str, object]]) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "preprocessing": {"height": 32, "width": 32},
            "model": {"architecture": "resnet18"},
            "training": {"phases": phases},
        }
    )


def test_only_the_named_parts_learn() -> None:
    model = build_model(ModelSpec(architecture="resnet18"), 2)
    phases = Phases(recipe([{"epochs": 1, "lr": 1e-3, "train": ["head", "last_block"]}]))
    phases.apply(model)
    learning = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning == {"fc", "layer4"}
    batch_norms = {
        name.split(".")[0]: module.training
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    assert batch_norms == {"bn1": False, "layer1": False, "layer2": False, "layer3": False, "layer4": True}


def test_an_unknown_part_is_named() -> None:
    phases = Phases(recipe([{"epochs": 1, "lr": 1e-3, "train": ["layer5"]}]))
    with pytest.raises(UsageError, match="names 'layer5', which the model does not have; it begins with conv1, bn1"):
        phases.check(build_model(ModelSpec(architecture="resnet18"), 2))


def test_names_of_parts_under_another_head() -> None:
    spec = ModelSpec.model_validate({"architecture": "vgg16", "head": {"kind": "mlp"}})
    assert module_paths(["head", "last_block"], spec) == [
        "head", "trunk.features.24", "trunk.features.26", "trunk.features.28"
    ]  # fmt: skip


def test_a_held_trunk_stays_to_the_bit(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    settings = [*quick, "training.ema=0", "training.seed=4"]
    trained = fit(load_recipe("pneumoniamnist", [*settings, HEAD_ONLY]), blobs, tmp_path / "run")
    model, spec = load_checkpoint(trained.directory)
    lightning.seed_everything(4, verbose=False)
    fresh = build_model(spec.model, 1)
    for name, tensor in fresh.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]) == (not name.startswith("classifier.")), name


def test_rates_follow_the_phases(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    phases = "training.phases=[{epochs: 2, lr: 0.01, train: [head]}, {epochs: 2, lr: 0.001}]"
    recipe = load_recipe("pneumoniamnist", [*quick, phases, "optim.schedule=constant"])
    fit(recipe, blobs, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        assert [float(row["lr"]) for row in csv.DictReader(stream)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_patience_ends_a_phase_and_not_the_run(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    # A first phase too slow to change a figure: after one epoch without a better loss the second begins.
    phases = "training.phases=[{epochs: 9, lr: 1.0e-12, train: [head]}, {epochs: 2, lr: 0.01}]"
    settings = [*quick, phases, "optim.schedule=constant", "training.monitor=loss", "training.patience=1"]
    fit(load_recipe("pneumoniamnist", [*settings, "training.ema=0"]), blobs, tmp_path / "run")
    with (tmp_path / "run" / "metrics.csv").open() as stream:
        rates = [float(row["lr"]) for row in csv.DictReader(stream)]
    assert 0.01 in rates
    assert rates.count(1e-12) < 9
