"""Imports run one way, the runtime is lean, and each proof is shown to be able to fail."""

from __future__ import annotations

import ast
import re
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
    assert imported_parts("def f():\n    from xrt.export.cams.heatmaps import explain") == {"export"}


# The rooms of every part, lowest first: packages and single modules. A room imports from those above it in this list.
# The one exception is the public face, the `__init__` of a part, which names what its rooms offer.
LAYERS = {
    "runtime": """
        errors _io _selection progress geometry outputs device cache
        bundle decisions thresholds preprocessing phantoms imaging datasets heatmaps gate
        tensorrt backends certification session scoring engine_builds screening doctor cli
    """,
    "train": "models data recipes checkpoint training search cli",
    "export": """
        silence ir passes autodiff targets cams references quantisation sources compile graph_functions publish cli
    """,
    "benchmarks": """
        statistics report contrasts localisation evaluation explanation faithfulness speed parity quantisers demo cli
    """,
}
ORDER = {part: rooms.split() for part, rooms in LAYERS.items()}


def imported_modules(source: str) -> set[str]:
    """The dotted names that a module imports, anywhere in it, for type checkers alone included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def wrong_imports(part: str, room: str, source: str) -> list[str]:
    """What a module in a room of a part imports from its own part that does not stand below it."""
    order, prefix = ORDER[part], f"xrt.{part}."
    rooms = {
        name.removeprefix(prefix).partition(".")[0] for name in imported_modules(source) if name.startswith(prefix)
    }
    below = order[: order.index(room) + 1]
    return sorted(name for name in rooms & set(order) if name not in below)


def rooms_of(part: str) -> dict[str, list[Path]]:
    """The modules of every room."""
    root = REPOSITORY / part / "xrt" / part
    rooms: dict[str, list[Path]] = {}
    for module in sorted(root.rglob("*.py")):
        if module != root / "__init__.py":
            rooms.setdefault(module.relative_to(root).parts[0].removesuffix(".py"), []).append(module)
    return rooms


@pytest.mark.parametrize("part", ORDER)
def test_a_room_imports_only_what_stands_below_it(part):
    rooms = rooms_of(part)
    print(part, "lowest first:", *ORDER[part])
    assert set(rooms) == set(ORDER[part]), "a new room has a place in the order"
    wrong = {
        str(module.relative_to(REPOSITORY)): names
        for room, modules in rooms.items()
        for module in modules
        if (names := wrong_imports(part, room, module.read_text()))
    }
    assert not wrong, f"these import from rooms above their own: {wrong}"


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("bundle", "from xrt.runtime.session import open_session", ["session"]),
        ("bundle", "from xrt.runtime import session", ["session"]),
        ("bundle", "if TYPE_CHECKING:\n    import xrt.runtime.gate.judge", ["gate"]),
        ("gate", "def f():\n    from xrt.runtime.screening.triage import triage", ["screening"]),
        ("session", "from xrt.runtime.bundle.reader import Bundle", []),
        ("session", "from xrt.runtime.session import open_session", []),
    ],
)
def test_an_import_from_above_is_seen(room, source, wrong):
    assert wrong_imports("runtime", room, source) == wrong


@pytest.mark.parametrize("part", ORDER)
def test_no_library_code_imports_a_command_line(part):
    for room, modules in rooms_of(part).items():
        for module in modules if room != "cli" else ():
            lines = [name for name in imported_modules(module.read_text()) if re.match(r"xrt\.\w+\.cli\b", name)]
            assert not lines, f"{module.relative_to(REPOSITORY)} imports {lines}: it belongs below the command line"


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


def test_the_gate_needs_numpy_alone():
    """What certifies a graph can be read, and run, with nothing of the runtime's other packages."""
    loaded = modules_after("import xrt.runtime.gate")
    assert "numpy" in loaded
    assert not {"PIL", "pydantic", "platformdirs", "onnxruntime", "jinja2", "typer"} & loaded
    code = "import sys, xrt.runtime.gate; print(*(m for m in sys.modules if m.startswith('xrt.runtime.')))"
    rooms = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[2] for name in rooms} <= {"gate", "outputs", "decisions"}


def test_the_proof_of_leanness_can_fail():
    assert "onnx" in modules_after("import onnx")
    assert {"PIL", "pydantic"} <= modules_after("import xrt.runtime.certification.certify")


def test_the_linter_knows_the_arrows():
    """A module that breaks one is refused, with a message that says where the code belongs."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename"]
    module = REPOSITORY / "runtime" / "xrt" / "runtime" / "new.py"
    result = subprocess.run([*command, module], input="import xrt.export\n", capture_output=True, text=True)
    assert result.returncode == 1
    assert "this belongs in export" in result.stdout


CHORES = """
import base64, hashlib, logging, os
from datetime import datetime
import matplotlib
import PIL.Image
hashlib.sha256(base64.b64encode(b""))
datetime.now()
os.fsync(0)
logging.disable()
matplotlib.use("Agg")
PIL.Image.MAX_IMAGE_PIXELS = None
assert True
"""


@pytest.mark.parametrize("part", ALLOWED)
def test_the_linter_knows_the_chores(part):
    """What is on the shelf, or would change the host process, is not spelled out again in any part."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251,S101", "--output-format", "concise"]
    module = REPOSITORY / part / "xrt" / part / "new.py"
    result = subprocess.run([*command, "--stdin-filename", module], input=CHORES, capture_output=True, text=True)
    refused = {int(line.split(":")[1]) for line in result.stdout.splitlines() if " TID251 " in line or " S101 " in line}
    assert refused == set(range(6, 13)), result.stdout


def changes_of_the_host(*arguments) -> list[str]:
    """What a program that uses xrt finds changed in its own process."""
    command = [sys.executable, str(REPOSITORY / "tests" / "host_process.py"), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    _, _, changes = result.stdout.partition("changed:\n")
    return changes.split("\n")[:-1]


def test_the_host_process_is_left_as_it_was(tmp_path):
    """Pillow's limit, matplotlib's back end, `sys.path`, logging levels and signal handlers are the host's own."""
    assert changes_of_the_host(tmp_path) == []


@pytest.mark.slow
def test_a_change_of_the_host_process_is_seen(tmp_path):
    assert changes_of_the_host(tmp_path, "sabotage") == ["sys.path"]
