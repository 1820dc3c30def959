"""Files of weights as people save them, read without unpickling code.

A file of torch.save may hold the weights under any key, several of them, and much else; a folder of Hugging Face holds
one or several files.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from xrt.runtime._io import comma_list, first_line, sha256_of
from xrt.runtime.errors import ModelError, UsageError

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
    "params",
    "params_ema",
    "ema",
    "model_ema",
    "best_model_wts",
    "best_state_dict",
)
"""Keys under which weights are looked for, in this order."""
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")
_MULTIARRAY = np._core.multiarray  # type: ignore[attr-defined]
# Harmless objects beside the weights in old training checkpoints: command-line arguments and numpy numbers.
_HARMLESS: list[Any] = [
    argparse.Namespace, np.dtype, np.ndarray, _MULTIARRAY.scalar, _MULTIARRAY._reconstruct,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "b1")),
]  # fmt: skip
_LISTED = 6
_MAGIC = (b"\x80", b"PK\x03\x04")
"""How pickles and zip archives begin."""
_FOREIGN_CODE = re.compile("unsupported|unrecognized|can only build", re.IGNORECASE)
"""What torch's restricted unpickler says of anything that is no tensor; other complaints are of damage."""


@dataclass(frozen=True)
class SavedWeights:
    """Tensors by name, and the `files` they are from; `note` says which were taken where there are several sets."""

    tensors: dict[str, torch.Tensor]
    files: tuple[Path, ...]
    note: str | None = None

    @property
    def sha256(self) -> str:
        """That of the file; of several, that of theirs, a line each."""
        hashes = [sha256_of(file.read_bytes()) for file in self.files]
        return hashes[0] if len(hashes) == 1 else sha256_of("\n".join(hashes))


def split_key(text: str) -> tuple[Path, str | None]:
    """`FILE` or `FILE:KEY`; a file whose own name has a colon is a file."""
    file, colon, key = text.rpartition(":")
    if colon and key and not Path(text).exists() and Path(file).exists():
        return Path(file), key
    return Path(text), None


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of `read_weights`. Raises ModelError as it does."""
    return read_weights(path).tensors


def read_weights(path: Path, key: str | None = None) -> SavedWeights:
    """The tensors of a `.safetensors`, `.pth`, `.pt` or `.ckpt` file, or of a folder of Hugging Face.

    `key` names the dictionary that holds them, one inside another by dots (`ema.module`); without it the usual names
    are tried, and `note` says so where there are several. Raises ModelError when the file cannot be read, holds no
    tensors, or holds pickled objects: unpickling runs whatever code the file says, so it is never done. Raises
    UsageError when there is nothing under the key.
    """
    if path.is_dir():
        return _read_folder(path)
    content = _content(path)
    return _found(content, path) if key is None else _under(content, key, path)


def _read_folder(folder: Path) -> SavedWeights:
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return _joined([folder / name])
        if (index := folder / f"{name}.index.json").is_file():
            return _read_shards(index)
    raise ModelError(f"{folder} holds no weights: neither {' nor '.join(_FOLDER_FILES)}, nor an index of several files")


def _joined(files: list[Path]) -> SavedWeights:
    tensors: dict[str, torch.Tensor] = {}
    for file in files:
        tensors |= _found(_content(file), file).tensors
    return SavedWeights(tensors, tuple(files))


def _read_shards(index: Path) -> SavedWeights:
    try:
        files = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"{index} is no index of weights: {first_line(error)}") from error
    if foreign := [name for name in files if Path(name).name != name]:
        raise ModelError(f"{index} names a file outside its folder ({foreign[0]!r}): nothing was loaded")
    return _joined([index.parent / file for file in files])


def _tensors_of(content: Any) -> dict[str, torch.Tensor]:
    if not isinstance(content, Mapping):
        return {}
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def _dictionaries(content: Any, lead: str = "", depth: int = 3) -> dict[str, dict[str, torch.Tensor]]:
    """Every dictionary of tensors inside, by the keys that lead to it joined by dots."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in content.items() if isinstance(content, Mapping) and depth else ():
        path = f"{lead}{name}"
        if isinstance(value, Mapping):
            if tensors := _tensors_of(value):
                found[path] = tensors
            found |= _dictionaries(value, f"{path}.", depth - 1)
    return found


def _found(content: Any, path: Path) -> SavedWeights:
    """The weights under the usual keys, else those of the file itself, else the only ones inside."""
    inside = _dictionaries(content)
    here, chosen = content, ""
    for _ in range(3):
        key = next((k for k in _WRAPPERS if isinstance(here, Mapping) and isinstance(here.get(k), Mapping)), None)
        if key is None:
            break
        here, chosen = here[key], f"{chosen}.{key}".lstrip(".")
    tensors = _tensors_of(here)
    if not tensors and len(inside) == 1:
        ((chosen, tensors),) = inside.items()
    if not tensors:
        if inside:
            raise ModelError(f"{path} holds several dictionaries of weights: give --weights {path}:{'|'.join(inside)}")
        raise ModelError(
            f"{path} holds something else than tensors by name: neither a state dict nor a dictionary with one inside"
        )
    others = [name for name in inside if name != chosen and len(inside[name]) > 1]
    if not chosen or not others:
        return SavedWeights(tensors, (path,))
    return SavedWeights(
        tensors,
        (path,),
        f"{path.name} holds several dictionaries of weights: {chosen!r} is taken, --weights {path.name}:KEY names "
        f"another ({comma_list(others, _LISTED)})",
    )


def _under(content: Any, key: str, path: Path) -> SavedWeights:
    """The weights under a key."""
    inside = _dictionaries(content)
    if key in inside:
        return SavedWeights(inside[key], (path,))
    nested = {name: tensors for name, tensors in inside.items() if name.startswith(f"{key}.")}
    if len(nested) == 1:
        return SavedWeights(next(iter(nested.values())), (path,))
    there = comma_list(list(inside), _LISTED) or "none"
    raise UsageError(f"{path} has no dictionary of weights under {key!r}; it has: {there}")


def _content(path: Path) -> Any:
    """What a file holds."""
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist; give a file of weights")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
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


def _begins_as(path: Path, starts: tuple[bytes, ...]) -> bool:
    with path.open("rb") as file:
        return file.read(8).startswith(starts)
