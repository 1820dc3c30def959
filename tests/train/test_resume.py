"""A run that is killed and resumed ends with the weights, to the bit, of one that never was."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from xrt.runtime.errors import ModelError, UsageError
from xrt.runtime.phantoms import write
from xrt.train.recipes.loader import load_recipe
from xrt.train.training.fit import Run, fit
from xrt.train.training.module import Classifier
from xrt.train.training.run_folder import RESUME, position

UNFINISHED = Path(__file__).parents[1] / "compatibility" / "written" / "unfinished"
# Everything that has a state: dropout, augmentation, averaged weights, momentum, a schedule, phases, balanced sampling.
STATEFUL = [
    "model.dropout=0.3",
    "augmentation.rotation=10",
    "optim.schedule=cosine",
    "training.checkpoint_steps=3",
    "training.sampling=balanced",
]
PHASED = "training.phases=[{epochs: 2, lr: 1e-2, train: [head]}, {epochs: 2, lr: 3e-3, train: [head, features.3]}]"


class Killed(BaseException):
    """What no handler expects, as a kill."""


@pytest.fixture(scope="module")
def settings(quick: list[str]) -> list[str]:
    return [*(key for key in quick if not key.startswith("training.epochs")), *STATEFUL, PHASED]


@pytest.fixture(scope="module")
def unbroken(blobs: Path, settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    torch.set_num_threads(1)
    return fit(load_recipe("pneumoniamnist", settings), blobs, tmp_path_factory.mktemp("whole") / "run")


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Break the next training off at the start of its batch number `batches`."""
    count = iter(range(batches, -1, -1))
    begin = Classifier.on_train_batch_start

    def break_off(module: Classifier, batch: object, batch_idx: int) -> None:
        if next(count) == 0:
            raise Killed
        begin(module, batch, batch_idx)

    monkeypatch.setattr(Classifier, "on_train_batch_start", break_off)


@pytest.mark.parametrize("batches", [2, 7, 17, 38])
def test_it_ends_with_the_same_weights(
    unbroken: Run,
    blobs: Path,
    settings: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batches: int,
) -> None:
    """Before the first state is saved; in the first epoch; after one; after the change of phases. An epoch has ten."""
    recipe = load_recipe("pneumoniamnist", settings)
    with monkeypatch.context() as patch:
        stop_after(patch, batches)
        with pytest.raises(Killed):
            fit(recipe, blobs, tmp_path)
    saved = tmp_path / RESUME
    assert saved.exists() == (batches >= 3)
    if saved.exists():
        epoch, done = position(torch.load(saved, weights_only=True))
        assert 0 <= batches - (10 * epoch + done) <= 3, "no more than the span between two states is lost"
    resumed = fit(recipe, blobs, tmp_path, resume=True)
    assert resumed.spec.weights_sha256 == unbroken.spec.weights_sha256
    assert resumed.metrics["test"] == unbroken.metrics["test"]
    without_seconds = [
        [line.rsplit(",", 1)[0] for line in (run.directory / "metrics.csv").read_text().splitlines()]
        for run in (unbroken, resumed)
    ]
    assert without_seconds[0] == without_seconds[1]
    assert not saved.exists()


def test_what_cannot_be_resumed(
    blobs: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("pneumoniamnist", settings)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(Killed):
            fit(recipe, blobs, tmp_path)
    with pytest.raises(UsageError, match="holds an unfinished run; --resume continues it"):
        fit(recipe, blobs, tmp_path)
    other = load_recipe("pneumoniamnist", [*settings, "optim.lr=0.5"])
    with pytest.raises(UsageError, match=r"was begun with optim\.lr = 0\.01, now it is 0\.5; continue with the same"):
        fit(other, blobs, tmp_path, resume=True)
    arrays = dict(np.load(blobs))
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(tmp_path / blobs.name, **arrays)
    with pytest.raises(UsageError, match="was begun on other cases or images than the data set has now"):
        fit(recipe, tmp_path / blobs.name, tmp_path, resume=True)
    settings_file = (tmp_path / "run.json").read_text()
    for damage in ("", "[]", json.dumps({**json.loads(settings_file), "recipe": None})):
        (tmp_path / "run.json").write_text(damage)
        with pytest.raises(ModelError, match=r"run\.json is damaged; remove"):
            fit(recipe, blobs, tmp_path, resume=True)
    (tmp_path / "run.json").write_text(settings_file)
    state = tmp_path / RESUME
    state.write_bytes(state.read_bytes()[:-1000])
    with pytest.raises(
        ModelError, match="truncated or damaged; remove it, and --resume starts the run again from its beginning"
    ):
        fit(recipe, blobs, tmp_path, resume=True)


def test_a_start_that_failed_is_no_hindrance(blobs: Path, settings: list[str], tmp_path: Path) -> None:
    for wrong in ("model.weights=nowhere.pth", "training.strategy=nonsense", "training.devices=9999"):
        with pytest.raises((ModelError, UsageError)):
            fit(load_recipe("pneumoniamnist", [*settings, wrong]), blobs, tmp_path / "run")
    short = [*settings, "training.phases=[{epochs: 1, lr: 0.01}]"]
    assert fit(load_recipe("pneumoniamnist", short), blobs, tmp_path / "run").metrics["epochs"] == 1


def test_a_run_of_the_version_before_is_resumed(tmp_path: Path) -> None:
    """`tests/compatibility/make.py` says how it was begun, and stopped after two batches."""
    run = Path(shutil.copytree(UNFINISHED, tmp_path / "run"))
    write(tmp_path / "phantoms", layout="nih", count=40, seed=31, size=64, workers=0)
    settings = [
        "data={groups: {normal: [No Finding], abnormal: ['*']}, per_class: all}",
        "preprocessing={height: 32, width: 32}",
        "model.compact={widths: [8, 16], blocks: [0, 0], halvings: 1}",
        "training={epochs: 2, batch_size: 4, threads: 1, checkpoint_steps: 1}",
    ]
    assert position(torch.load(run / RESUME, weights_only=True)) == (0, 2)
    begin, batches = Classifier.on_train_batch_start, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Classifier,
            "on_train_batch_start",
            lambda module, batch, index: batches.append((module.current_epoch, index)) or begin(module, batch, index),
        )
        resumed = fit(load_recipe("phantoms", settings), tmp_path / "phantoms", run, resume=True)
    assert batches[0] == (0, 2)
    assert resumed.metrics["epochs"] == 2
    assert not (run / RESUME).exists()


@pytest.mark.slow
def test_ten_real_kills(blobs: Path, settings: list[str], tmp_path: Path) -> None:
    """SIGKILL at a random moment, ten times over, wherever the process is just then."""
    phases = "training.phases=[{epochs: 50, lr: 1e-2, train: [head]}, {epochs: 50, lr: 3e-3}]"
    long = [*(key for key in settings if not key.startswith("training.phases")), phases]
    unbroken = fit(load_recipe("pneumoniamnist", long), blobs, tmp_path / "whole")
    run, draw = tmp_path / "run", random.Random(0)
    overrides = [part for setting in long for part in ("--set", setting)]
    call = "from xrt.runtime.cli.app import main; main()"
    command = [
        sys.executable,
        "-c",
        call,
        "train",
        "pneumoniamnist",
        "--data",
        str(blobs),
        "--out",
        str(run),
        "--resume",
    ]
    places = []
    for _ in range(10):
        before = run_state(run)
        process = subprocess.Popen([*command, *overrides], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        # Until it trains: killed while it imports torch, it would prove nothing.
        while run_state(run) == before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(draw.uniform(0, 1))
        assert process.poll() is None, "it must be killed before it ends"
        process.send_signal(signal.SIGKILL)
        process.wait()
        places.append(position(torch.load(run / RESUME, weights_only=True)))
    assert places == sorted(places), "every start goes on where the last one was killed"
    assert len(set(places)) == 10
    subprocess.run([*command, *overrides], check=True, capture_output=True)
    assert (run / "model.safetensors").read_bytes() == (unbroken.directory / "model.safetensors").read_bytes()


def run_state(run: Path) -> int:
    """When the state of a run was last written; 0 for never."""
    return (run / RESUME).stat().st_mtime_ns if (run / RESUME).exists() else 0
