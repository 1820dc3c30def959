"""`xrt train`: results on standard output, figures in a file, one-line errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from xrt.runtime.errors import MissingDependency, UsageError
from xrt.train.cli.train import train

app = typer.Typer()
app.command()(train)


def test_train(blobs: Path, quick: list[str], tmp_path: Path) -> None:
    sets = [part for override in [*quick, "training.epochs=1"] for part in ("--set", override)]
    figures = tmp_path / "figures.json"
    places = ["--data", str(blobs), "--out", str(tmp_path / "run"), "--json", str(figures)]
    result = CliRunner().invoke(app, ["pneumoniamnist", *places, *sets], catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["class", "AUROC", "sensitivity", "specificity", "threshold", "positives"]
    assert lines[1].startswith("pneumonia ")
    assert lines[2].startswith("test: mean AUROC ")
    assert lines[3] == f"checkpoint: {tmp_path / 'run'}"
    assert json.loads(figures.read_text())["recipe"]["training"]["epochs"] == 1


def test_a_wrong_recipe_starts_nothing(blobs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe 'x'"):
        train("x", blobs, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_lightning_the_install_command_is_named(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("xrt.train.") or name == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(MissingDependency, match=r"needs lightning, .* pip install 'xrt-train\[lightning\]'"):
        train("pneumoniamnist", blobs, tmp_path / "run")
