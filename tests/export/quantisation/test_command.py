"""`xrt export` with variants and engines, as a user calls it."""

from __future__ import annotations

import json
import os
import sys

import onnx
import pytest
from export.onnx_graphs import BODY, graph

from xrt.runtime.bundle import Bundle
from xrt.runtime.cli.app import main
from xrt.runtime.tensorrt.distributions import TENSORRT_RTX


@pytest.fixture
def export(tmp_path, monkeypatch, capsys):
    onnx.save(graph(BODY + "y = Sigmoid (l)"), tmp_path / "model.onnx")

    def run(*arguments):
        command = ["export", tmp_path / "model.onnx", "--mean", "0.5", "--std", "0.25", "--out", tmp_path / "a.xrt"]
        monkeypatch.setattr(sys, "argv", ["xrt", *map(str, (*command, *arguments))])
        with pytest.raises(SystemExit) as stop:
            main()
        return stop.value.code, *capsys.readouterr()

    return run


@pytest.mark.skipif(TENSORRT_RTX.unavailable_reason() is not None, reason="TensorRT for RTX is not installed")
def test_variants_and_engines(export, tmp_path):
    options = ("--precision", "fp16", "--tensorrt", "sm86", "--report", tmp_path / "gate", "--json", tmp_path / "j")
    code, out, err = export(*options)
    assert code in (0, None), err
    assert "range scan: the largest number" in err
    assert "model.fp16.onnx on onnxruntime" in out
    assert out.count("built, not yet run") == 2
    assert [v.precision for v in Bundle.open(tmp_path / "a.xrt").manifest.variants] == ["fp32", "fp16"]
    assert (tmp_path / "gate" / "gate.html").is_file()
    assert len(json.loads((tmp_path / "j").read_text())["variants"]) == 2


def test_a_bundle_may_have_any_name(export, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.xrt")
    code, out, err = export("--out", path)
    assert code in (0, None), err
    assert "bundle: " in out
    assert Bundle.open(path).manifest.name == r"caf\xe9"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--precision", "int4"], 2, "--precision takes fp32, fp16, int8; given 'int4'"),
        (["--precision", "int8"], 2, "int8 is calibrated on radiographs: give 32 or more with --calibrate"),
        (["--precision", "int8", "--calibrate", "{tmp}/none"], 1, "neither a folder of radiographs nor a labelled"),
        (["--calibrate", "{tmp}"], 2, "--calibrate is for int8"),
        (["--tensorrt", "sm1"], 2, "sm1"),
        (["--report", "{tmp}/model.onnx"], 2, "model.onnx is not a folder that this user may write to"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_made(export, tmp_path, arguments, code, message):
    exit_code, _, err = export(*(a.format(tmp=tmp_path) for a in arguments))
    assert exit_code == code, err
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "a.xrt").exists()
