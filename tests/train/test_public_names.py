"""The public face of `xrt.train`: every name loads, is shown by `dir()`, and is the one that type checkers see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import xrt.train


@pytest.mark.parametrize("name", xrt.train.__all__)
def test_every_name_loads(name: str) -> None:
    assert getattr(xrt.train, name).__module__.startswith("xrt.train.")


def test_names_are_sorted_and_shown() -> None:
    assert xrt.train.__all__ == sorted(xrt.train.__all__) == dir(xrt.train)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'xrt.train' has no attribute 'fitt'"):
        _ = xrt.train.fitt


def test_type_checkers_see_what_is_loaded() -> None:
    tree = ast.parse(Path(xrt.train.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = {node.module: tuple(name.name for name in node.names) for node in block.body}
    assert imports == xrt.train._MODULES
    assert sorted(name for names in imports.values() for name in names) == xrt.train.__all__


def test_no_name_is_a_module_of_the_package() -> None:
    """An imported module would take the place of the name."""
    modules = {path.stem for path in Path(xrt.train.__file__).parent.iterdir()}
    assert not modules & set(xrt.train.__all__)
