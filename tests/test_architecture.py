"""Imports run one way, the runtime is lean, and each proof is shown to be able to fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ALLOWED = {
    "runtime": {"runtime"},
    "train": {"train", "runtime"},
    "export": {"export", "train", "runtime"},
    "benchmarks": {"benchmarks", "export", "train", "runtime"},
}
# The modules and folders of benchmarks that may import export and train: those of the extra `torch`.
WITH_TORCH = {"speed", "cli", "parity.py", "demo.py", "quantisers.py"}


def imported_parts(source: str) -> set[str]:
    """The parts of xrt that a module imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("xrt.")}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_run_one_way(part):
    root = REPOSITORY / part / "xrt" / part
    for module in root.rglob("*.py"):
        allowed = ALLOWED[part]
        if part == "benchmarks" and module.relative_to(root).parts[0] not in WITH_TORCH:
            allowed = {"benchmarks", "runtime"}
        wrong = imported_parts(module.read_text()) - allowed
        assert not wrong, (
            f"{module.relative_to(REPOSITORY)} imports xrt.{wrong}: arrows run {sorted(allowed)} -> {part}"
        )


def test_a_wrong_arrow_is_seen():
    assert imported_parts("def f():\n    from xrt.export.cams.explain import explain") == {"export"}


def test_the_namespace_has_no_init():
    assert not list(REPOSITORY.glob("*/xrt/__init__.py"))


def modules_after(code: str) -> set[str]:
    """The top-level packages in a fresh interpreter after `code`."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines()[-1].split())


RUN_HELP = """
import sys
from xrt.runtime.cli.app import main
sys.argv = ["xrt", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


@pytest.mark.parametrize("command", [[], ["triage"], ["build"], ["train"], ["export"]])
def test_help_is_light(command):
    heavy = {"numpy", "onnxruntime", "pydicom", "torch", "onnx", "PIL", "sklearn", "matplotlib", "cuda"}
    assert not heavy & modules_after(RUN_HELP.format(arguments=[*command, "--help"]))


IMPORT_EVERYTHING = """
import importlib, pkgutil, xrt.runtime
for module in pkgutil.walk_packages(xrt.runtime.__path__, "xrt.runtime."):
    importlib.import_module(module.name)
"""


def test_the_runtime_imports_no_torch_and_no_onnx():
    loaded = modules_after(IMPORT_EVERYTHING)
    assert "numpy" in loaded
    assert not {"torch", "onnx", "torchvision", "lightning", "sklearn"} & loaded
    assert not {"tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "cuda"} & loaded


def test_the_proof_of_leanness_can_fail():
    assert "onnx" in modules_after("import onnx")


def test_the_linter_knows_the_arrows():
    """A module that breaks one is refused, with a message that says where the code belongs."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename"]
    module = REPOSITORY / "runtime" / "xrt" / "runtime" / "new.py"
    result = subprocess.run([*command, module], input="import xrt.export\n", capture_output=True, text=True)
    assert result.returncode == 1
    assert "this belongs in export" in result.stdout
