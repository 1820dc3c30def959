"""State dicts of any age: read without unpickling code, and weights to a module's own names."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from xrt.runtime._io import comma_list, first_line
from xrt.runtime.errors import ModelError

_WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "state_dict_ema",
    "model",
    "module",
    "net",
    "network",
    "weights",
)
_MULTIARRAY = np._core.multiarray  # type: ignore[attr-defined]
# Harmless objects beside the weights in old training checkpoints: command-line arguments and numpy numbers.
_HARMLESS: list[Any] = [
    argparse.Namespace, np.dtype, np.ndarray, _MULTIARRAY.scalar, _MULTIARRAY._reconstruct,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "b1")),
]  # fmt: skip
# torchvision's DenseNets before 2018 called their layers norm.1, conv.2; a dot in a module's name was forbidden later.
# Elsewhere `conv.1` is the second layer of a Sequential, as in MobileNet, and stays.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_LISTED = 6
_CANDIDATES = 12
_MAGIC = (b"\x80", b"PK\x03\x04")
"""How pickles and zip archives begin."""
_FOREIGN_CODE = re.compile("unsupported|unrecognized|can only build", re.IGNORECASE)
"""What torch's restricted unpickler says of anything that is no tensor; other complaints are of damage."""


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file, out of whatever dictionary they were saved in.

    Raises ModelError when the file cannot be read, holds no tensors, or holds pickled objects: unpickling runs
    whatever code the file says, so it is never done.
    """
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; give a file of weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _begins_as(path, _MAGIC) or not _FOREIGN_CODE.search(str(error)):
            raise ModelError(f"{path} cannot be read as weights: damaged, or no file of torch.save") from error
        raise ModelError(
            f"{path} cannot be read as weights alone: it holds pickled Python objects, a whole module perhaps, and "
            "unpickling runs whatever code a file says: nothing was loaded. Where the file is trusted, save its "
            "weights alone with torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW) and give NEW"
        ) from error
    except Exception as error:  # a damaged file makes zip, pickle and torch raise many kinds of errors
        if "TorchScript" in str(error):
            reason = "it is a TorchScript archive: give what torch.jit.load(FILE).state_dict() saves instead"
        else:
            # Of some errors, the text is a bare key or nothing.
            has_text = " " in str(error).strip()
            reason = first_line(error) if has_text else "it is truncated or damaged, or no file of torch.save"
        raise ModelError(f"{path} cannot be read as weights: {reason}") from error
    for _ in range(3):
        inner = next(
            (content[k] for k in _WRAPPERS if isinstance(content, Mapping) and isinstance(content.get(k), Mapping)),
            None,
        )
        if inner is None:
            break
        content = inner
    tensors = (
        {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    )
    if not tensors:
        raise ModelError(
            f"{path} holds something else than tensors by name: neither a state dict nor a dictionary with one inside"
        )
    return tensors


def in_names_of(module: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict under the module's own names, with their prefix in place of its own; other names stay."""
    tensors = {_OLD_DENSENET.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
    strip, add = _best_prefix(_tensors(module), tensors)
    own = {add + name.removeprefix(strip): tensor for name, tensor in tensors.items() if name.startswith(strip)}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(strip)} | own


def fit_state_dict(module: torch.nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> list[str]:
    """Load a state dict into a module, whatever the prefix of its names is; returns the names that were not used.

    Raises ModelError when a weight of the module is not among them or has another shape.
    """
    own = _tensors(module)
    weights = in_names_of(module, state)
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    unused = [name for name in weights if name not in own and not name.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(
            f"{origin} lacks {len(missing)} of the model's {len(own)} weights: {comma_list(missing, _LISTED)}"
            + (f"; it has left over: {comma_list(unused, _LISTED)}" if unused else "")
            + "; is it the same architecture with the same head?"
        )
    misfits = [
        f"{name} is {list(weights[name].shape)} and should be {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    if misfits:
        raise ModelError(
            f"{origin} does not fit the model: {comma_list(misfits, _LISTED)}; give weights of its width, or where"
            " their number of classes differs, name as many --labels"
        )
    module.load_state_dict({name: tensor for name, tensor in weights.items() if name in own}, strict=False)
    return unused


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}


def _begins_as(path: Path, starts: tuple[bytes, ...]) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(starts)


def _best_prefix(own: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> tuple[str, str]:
    """The prefix to strip from a state dict's names, and the one to add, so that most weights fit the module's."""

    def score(strip: str, add: str) -> int:
        return sum(
            name.startswith(strip)
            and (weight := own.get(add + name.removeprefix(strip))) is not None
            and weight.shape == tensor.shape
            for name, tensor in state.items()
        )

    candidates = [(strip, add) for strip in _prefixes(state) for add in _prefixes(own)]
    return max(candidates, key=lambda pair: (score(*pair), -len(pair[0]) - len(pair[1])))


def _prefixes(names: Iterable[str]) -> list[str]:
    """The empty prefix, and up to three leading parts that several names share, the most frequent ones."""
    counts: dict[str, int] = {"": 0}
    for name in names:
        parts = name.split(".")
        for depth in range(1, min(4, len(parts))):
            prefix = ".".join(parts[:depth]) + "."
            counts[prefix] = counts.get(prefix, 0) + 1
    total = max(counts.values(), default=0)
    shared = [p for p, n in counts.items() if not p or 2 * n > total]
    return sorted(shared, key=lambda p: (p != "", -counts[p]))[:_CANDIDATES]
