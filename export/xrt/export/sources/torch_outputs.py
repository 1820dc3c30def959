"""Modules that give more than one tensor: which of them are the logits, and the module with these alone.

Dictionaries, tuples, named tuples, data classes, and the model outputs of Hugging Face, also one inside another. The
module keeps its names: its class is replaced by one that differs in what `forward` returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any

import torch

from xrt.runtime.errors import ModelError, UsageError

Path = tuple[str | int, ...]
LOGITS = "logits"


def give_logits_alone(module: torch.nn.Module, output: Any, wanted: str | None) -> str | None:
    """Make `module` return its logits, of what it returned for some images; says what was taken of several outputs.

    `wanted` names an output: a key, a position in a tuple, or both joined by dots. Without it the logits are the one
    called `logits`, the first [n, classes] of a tuple, or the only one. None when the output is one tensor already.
    Raises UsageError when there is no output of the name, ModelError when several could be meant.
    """
    if isinstance(output, torch.Tensor):
        if wanted is not None:
            raise UsageError(f"{type(module).__name__} gives one tensor: leave out --output")
        return None
    name, outputs = type(module).__name__, dict(_tensors(output))
    by_name = {_spelled(path): path for path in outputs}
    listed = ", ".join(f"{_spelled(path)} {list(tensor.shape)}" for path, tensor in outputs.items()) or "no tensor"
    if wanted is not None:
        if wanted not in by_name:
            raise UsageError(f"{name} has no output {wanted!r}: it gives {listed}")
        path = by_name[wanted]
    else:
        path = _choice(output, outputs, f"{name} gives {listed}")
    _return_only(module, path)
    if len(outputs) == 1:
        return None
    return f"{name} gives {listed}: {_spelled(path)!r} is taken for the logits, --output names another"


def _choice(output: Any, outputs: Mapping[Path, torch.Tensor], what: str) -> Path:
    if named := [path for path in outputs if path[-1] == LOGITS]:
        return min(named, key=len)
    candidates = [path for path, tensor in outputs.items() if tensor.is_floating_point() and tensor.ndim == 2]
    if not candidates:
        raise ModelError(f"{what}: none is [n, classes]; return the logits, or name them with --output")
    if len(candidates) > 1 and not (isinstance(output, Sequence) and not hasattr(output, "_fields")):
        names = "|".join(map(_spelled, candidates))
        raise ModelError(f"{what}: say which are the logits with --output {names}")
    return candidates[0]


def _tensors(output: Any, path: Path = ()) -> Iterator[tuple[Path, torch.Tensor]]:
    """Every tensor in an output, with the keys and positions that lead to it."""
    if isinstance(output, torch.Tensor):
        yield path, output
        return
    for key, value in _parts(output):
        yield from _tensors(value, (*path, key))


def _parts(output: Any) -> list[tuple[str | int, Any]]:
    if isinstance(output, Mapping):
        return [(key if isinstance(key, int) else str(key), value) for key, value in output.items()]
    if hasattr(output, "_fields"):
        return [(name, getattr(output, name)) for name in output._fields]
    if is_dataclass(output):
        return [(field.name, getattr(output, field.name)) for field in fields(output)]
    if isinstance(output, (list, tuple)):
        return list(enumerate(output))
    return []


def _return_only(module: torch.nn.Module, path: Path) -> None:
    """Replace the class of a module by one whose `forward` returns one part of the output."""
    kind = type(module)
    original = vars(module).pop("forward", None)  # of a module that was patched, the patch

    @wraps(kind.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = kind.forward(self, *args, **kwargs) if original is None else original(*args, **kwargs)
        for key in path:
            result = dict(_parts(result))[key]
        return result

    names = {"forward": forward, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    module.__class__ = type(kind.__name__, (kind,), names)


def _spelled(path: Path) -> str:
    return ".".join(map(str, path))
