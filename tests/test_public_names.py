"""What each part offers: its names are listed once, sorted and typed, and are loaded when they are first used."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

PARTS = ("runtime", "train", "export", "benchmarks")


@pytest.fixture(params=PARTS)
def part(request) -> ModuleType:
    return import_module(f"xrt.{request.param}")


def names_for_type_checkers(source: str) -> dict[str, tuple[str, ...]]:
    """The names by module that the block `if TYPE_CHECKING:` of a module imports."""
    blocks = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    ]
    imports = [node for block in blocks for node in block.body]
    assert all(isinstance(node, ast.ImportFrom) for node in imports)
    return {node.module: tuple(alias.asname or alias.name for alias in node.names) for node in imports}


def test_names_are_sorted_and_what_dir_shows(part):
    assert part.__all__ == sorted(set(part.__all__))
    assert dir(part) == part.__all__


def test_every_name_can_be_imported(part):
    for name in part.__all__:
        assert getattr(part, name) is not None, name
        assert getattr(part, name) is getattr(import_module(part._MODULE_OF[name]), name)


def test_a_type_checker_sees_the_names_that_are_loaded(part):
    (folder,) = part.__path__
    assert names_for_type_checkers((Path(folder) / "__init__.py").read_text()) == part._MODULES
    assert sorted(name for names in part._MODULES.values() for name in names) == part.__all__


def test_a_name_that_is_not_listed_is_an_attribute_error(part):
    with pytest.raises(AttributeError, match=f"module '{part.__name__}' has no attribute 'Stethoscope'"):
        _ = part.Stethoscope


def test_a_part_says_that_it_is_typed(part):
    (folder,) = part.__path__
    assert (Path(folder) / "py.typed").is_file()


@pytest.mark.parametrize("name", PARTS)
def test_importing_a_part_loads_none_of_its_modules(name):
    code = f"import sys, xrt.{name}; print([m for m in sys.modules if m.startswith('xrt.{name}.')])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_name_that_is_missing_for_type_checkers_is_seen():
    source = "if TYPE_CHECKING:\n    from a.b import One, Two\n    from a.c import Three\n"
    assert names_for_type_checkers(source) == {"a.b": ("One", "Two"), "a.c": ("Three",)}
    assert names_for_type_checkers(source) != {"a.b": ("One",), "a.c": ("Three",)}


@pytest.mark.slow
def test_a_program_of_public_names_runs(tmp_path):
    """`user_program.py` is checked by the type checker, strictly and without Any; here it runs."""
    from xrt.runtime.phantoms import write

    write(tmp_path / "data", count=60, size=96, workers=0)
    program = Path(__file__).with_name("user_program.py")
    command = [sys.executable, str(program), str(tmp_path / "out"), str(tmp_path / "data")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "grad.relu" in result.stdout


def test_no_name_is_a_module_of_its_part(part):
    """An imported module would take the place of the name."""
    (folder,) = part.__path__
    assert not {path.stem for path in Path(folder).iterdir()} & set(part.__all__)


@pytest.mark.parametrize("name", PARTS)
def test_importing_a_part_loads_nothing_heavy(name):
    code = f"import sys, xrt.{name}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "PIL", "pydantic", "torch", "onnx", "onnxruntime", "matplotlib", "sklearn"} & set(loaded)
