"""Loading `--weights` into a module: the file or folder, and what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from xrt.export.sources import torchxrayvision
from xrt.export.sources.stated_preprocessing import PreprocessorConfig, config_beside, labels_beside
from xrt.train.models.saved_weights import read_weights, split_key
from xrt.train.models.state_dict import fit_state_dict

_MAX_LEFTOVERS = 8


@dataclass(frozen=True)
class LoadedWeights:
    """The digest of what was loaded, remarks on it, and the labels and preprocessing that Hugging Face keeps beside."""

    sha256: str
    notes: tuple[str, ...]
    labels: tuple[str, ...] | None
    config: PreprocessorConfig | None


def load_weights(module: torch.nn.Module, text: str) -> LoadedWeights:
    """Load `FILE`, `FILE:KEY` or a folder of Hugging Face into a module.

    Raises ModelError when it cannot be read or does not fit, UsageError when there is nothing under the key.
    """
    path, key = split_key(text)
    saved = read_weights(path, key)
    fit = torchxrayvision.fit if torchxrayvision.is_torchxrayvision(module) else fit_state_dict
    leftovers = fit(module, saved.tensors, str(path))
    notes = [saved.note] if saved.note else []
    if leftovers:
        names = ", ".join(leftovers[:_MAX_LEFTOVERS]) + (" …" if len(leftovers) > _MAX_LEFTOVERS else "")
        notes.append(f"{path.name} has {len(leftovers)} weights that the model has no place for: {names}")
    first = saved.files[0]
    return LoadedWeights(saved.sha256, tuple(notes), labels_beside(first), config_beside(first))
