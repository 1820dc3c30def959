"""Recipes as files: YAML with known keys only (`xrt.train.recipes.spec`).

A recipe is one of the package's own (`recipes/*.yaml`), by name, or any YAML file, by path. `key=value`
overrides reach every key (`optim.lr=1e-3`); values are YAML, so `null`, `true`, `[0.8, 0.1, 0.1]` mean what they
mean there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from xrt.runtime.errors import DataError, UsageError
from xrt.train.recipes.spec import Recipe

_SHOWN = 3  # faults that a message names
_KIND = re.compile(r"constrained-|function-after\[|literal\[")
_REMEDIES = {"tuple_type": "give a list", "list_type": "give a list", "dict_type": "give a mapping of keys to values"}
_REMEDIES["model_type"] = _REMEDIES["dict_type"]


class _Loader(yaml.SafeLoader):
    """YAML without repeated keys and without references.

    The first value of a repeated key would be lost silently; references can make a file of a few lines huge.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(problem=f"*{event.anchor}: write the value out", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise yaml.MarkedYAMLError(problem=f"key {repeated[0]!r} is there twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def known_recipes() -> tuple[str, ...]:
    """Names of the package's own recipes."""
    folder = resources.files("xrt.train.recipes")
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of that name, or in that file, after `key=value` overrides.

    Raises UsageError for an unknown recipe or a malformed override, DataError for unknown keys and bad
    values; each names the key and, where there are some, the known ones.
    """
    source = str(name_or_path)
    if source in known_recipes():
        text = (resources.files("xrt.train.recipes") / f"{source}.yaml").read_bytes()
    elif Path(source).is_file():
        text = Path(source).read_bytes()
    else:
        raise UsageError(f"no recipe {source!r}: neither a file nor one of {', '.join(known_recipes())}")
    try:
        tree = _load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"recipe {source} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise DataError(f"recipe {source} must be a mapping of keys, not {type(tree).__name__}")
    for override in overrides:
        _apply(tree, override)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        faults = [_explain(fault) for fault in error.errors()]
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError(f"recipe {source}: {'; '.join(faults[:_SHOWN])}{more}") from error


def _load(text: str | bytes) -> Any:
    return yaml.load(text, _Loader)


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set takes key=value, for example optim.lr=1e-3, not {override!r}")
    try:
        content = _number(_load(value))
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"--set {key}: {value!r} is not a YAML value") from error
    *parents, last = key.strip().split(".")
    node: Any = tree
    for parent in parents:
        part = _key_or_index(node, parent, key)
        # A value that is no mapping or list is replaced by a mapping; validation then checks the result.
        if not isinstance(node[part] if isinstance(node, list) else node.get(part), dict | list):
            node[part] = {}
        node = node[part]
    node[_key_or_index(node, last, key)] = content


def _key_or_index(node: dict[str, Any] | list[Any], part: str, key: str) -> Any:
    """A part of a dotted key: a name in a mapping, a number from 0 in a list."""
    if isinstance(node, dict):
        return part
    if not part.isdigit() or int(part) >= len(node):
        raise UsageError(f"--set {key}: {part!r} is no index of a list of {len(node)}; give a number from 0")
    return int(part)


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3, without a point, as text.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _explain(error: Any) -> str:
    # Of alternatives, pydantic names the kind of each beside the keys.
    key = ".".join(str(part) for part in error["loc"] if not _KIND.match(str(part)))
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        return f"unknown key {key!r}" + (f" (known: {', '.join(known)})" if known else "")
    if error["type"] == "missing":
        return f"key {key!r} is missing"
    prefix = f"{key}: " if key else ""
    text = _REMEDIES.get(error["type"]) or str(error["msg"]).removeprefix("Value error, ")
    return f"{prefix}{text} (got {error['input']!r})" if key else text


def _known_keys(parents: Sequence[int | str]) -> list[str]:
    model: Any = Recipe
    for parent in parents:
        field = getattr(model, "model_fields", {}).get(parent)
        model = field.annotation if field else None
    return list(getattr(model, "model_fields", {}))
