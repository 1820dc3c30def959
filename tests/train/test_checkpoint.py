"""Checkpoints: what is saved comes back, and every fault is named in one line with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from xrt.runtime.bundle.manifest import ClassSpec, InputStatistics, Preprocessing
from xrt.runtime.errors import ModelError
from xrt.runtime.preprocessing import preprocess
from xrt.train.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
from xrt.train.models import CompactSpec, ModelSpec, Normalisation, build_model

SPEC = CheckpointSpec(
    model=ModelSpec(compact=CompactSpec(widths=(4, 4), blocks=(0, 1), halvings=1), dropout=0.3),
    task="multilabel",
    classes=(ClassSpec(name="Mass", threshold=0.2), ClassSpec(name="Nodule", threshold=0.7)),
    preprocessing=Preprocessing(height=16, width=24),
    normalisation=Normalisation(mean=(0.4,), std=(0.2,)),
    input_statistics=InputStatistics(mean=(10, 200), std=(5, 80)),
    metrics={"test": {"auroc": 0.9}},
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, CheckpointSpec]:
    torch.manual_seed(0)
    model = build_model(SPEC.model, 2).eval()
    directory = tmp_path / "run"
    return directory, model, save_checkpoint(directory, model, SPEC)


@pytest.mark.parametrize("name", ["", "model.safetensors", "model.json"])
def test_round_trip(saved: tuple[Path, torch.nn.Module, CheckpointSpec], name: str) -> None:
    directory, model, spec = saved
    loaded, read = load_checkpoint(directory / name)
    assert read == spec
    assert read.model_copy(update={"weights_sha256": None}) == SPEC
    assert not loaded.training
    x = torch.randn(2, 1, 16, 24)
    with torch.inference_mode():
        assert torch.equal(loaded(x), model(x))


@pytest.mark.parametrize("architecture", ["resnet18", "densenet121", "efficientnet_b0"])
def test_round_trip_of_torchvision_models(tmp_path: Path, architecture: str) -> None:
    spec = SPEC.model_copy(update={"model": ModelSpec(architecture=architecture, dropout=0.5)})
    model = build_model(spec.model, 2).eval()
    save_checkpoint(tmp_path, model, spec)
    x = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(tmp_path)[0](x), model(x))


def test_starting_weights_are_forgotten(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"model": SPEC.model.model_copy(update={"weights": "/gone.pth"})})
    save_checkpoint(tmp_path, build_model(SPEC.model, 2), spec)
    assert load_checkpoint(tmp_path)[1].model.weights is None


def test_a_checkpoint_of_earlier_versions_with_lanczos_without_antialias_opens(
    saved: tuple[Path, torch.nn.Module, CheckpointSpec],
) -> None:
    """Recipes that ask for it are refused now; what was trained so goes on being resized with bicubic."""
    directory, _, spec = saved
    earlier = spec.preprocessing.model_copy(update={"interpolation": "lanczos", "antialias": False})
    edit(preprocessing=earlier.model_dump(mode="json"))(directory)
    loaded = load_checkpoint(directory)[1].preprocessing
    assert loaded == earlier
    image = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    bicubic = loaded.model_copy(update={"interpolation": "bicubic"})
    np.testing.assert_array_equal(preprocess(image, loaded)[0], preprocess(image, bicubic)[0])


def drop_json(run: Path) -> None:
    (run / "model.json").unlink()


def drop_weights(run: Path) -> None:
    (run / "model.safetensors").unlink()


def truncate(run: Path) -> None:
    file = run / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def empty(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"")


def flip_bit(run: Path) -> None:
    file = run / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))


def edit(**changes: object) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        file = run / "model.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return apply


def break_json(run: Path) -> None:
    (run / "model.json").write_text("{")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (drop_json, "has no model.json; a checkpoint is model.safetensors and model.json side by side"),
        (drop_weights, "has no model.safetensors; a checkpoint is"),
        (truncate, r"is truncated \(\d+ bytes\); copy it again"),
        (empty, r"is truncated \(0 bytes\)"),
        (flip_bit, "has SHA-256 .* the weights were changed or belong to another run"),
        (break_json, "is not a checkpoint's description"),
        (edit(colour="red"), "is not a checkpoint's description: colour: Extra inputs are not permitted"),
        (edit(schema_version=2), "is not a checkpoint's description: schema_version"),
        (
            edit(classes=[{"name": "Mass"}, {"name": "Nodule"}, {"name": "Hernia"}]),
            r"has 2 logits, but the description has 3 classes for them \(Mass, Nodule, Hernia\)",
        ),
        (
            edit(
                model={
                    "architecture": "compact",
                    "compact": {"widths": [4, 8], "blocks": [0, 1], "halvings": 1},
                }
            ),
            "does not fit the compact of model.json",
        ),
        (edit(model={"architecture": "vgg99"}), "unknown architecture 'vgg99'"),
    ],
)
def test_faults_are_named(
    saved: tuple[Path, torch.nn.Module, CheckpointSpec], fault: Callable[[Path], None], message: str
) -> None:
    fault(saved[0])
    with pytest.raises(ModelError, match=message) as caught:
        load_checkpoint(saved[0])
    assert "\n" not in str(caught.value)


def test_absent_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist; give a run's directory"):
        load_checkpoint(tmp_path / "nothing")


def test_a_file_that_is_no_safetensors(saved: tuple[Path, torch.nn.Module, CheckpointSpec]) -> None:
    (saved[0] / "model.safetensors").write_bytes(b"\xff" * 1000)
    edit(weights_sha256=None)(saved[0])
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load_checkpoint(saved[0])


def test_saving_the_wrong_number_of_logits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="this model has 3 logits, but the description has 2 classes"):
        save_checkpoint(tmp_path, build_model(SPEC.model, 3), SPEC)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "binary"}, "says which one its maps explain"),
        (
            {"normalisation": Normalisation(mean=(0.1, 0.2, 0.3), std=(1, 1, 1))},
            "normalisation has 3 channels",
        ),
    ],
)
def test_contradictions_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CheckpointSpec.model_validate({**SPEC.model_dump(), **changes})


@pytest.mark.parametrize(
    ("modules", "found"),
    [
        # Export must not need the extra `lightning`. Torch is found: the proof can see what is there.
        ("xrt.train.checkpoint, xrt.train.models", "['torch']"),
        # `xrt --help` imports this.
        ("xrt.train.cli", "[]"),
        # The names are loaded when they are first used.
        ("xrt.train", "[]"),
    ],
)
def test_imports_stay_light(modules: str, found: str) -> None:
    heavy = {"torch", "lightning", "torchmetrics", "matplotlib"}
    if modules in ("xrt.train.cli", "xrt.train"):
        heavy |= {"numpy", "yaml"}
    code = f"import sys, {modules}; print(sorted({heavy!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == found
