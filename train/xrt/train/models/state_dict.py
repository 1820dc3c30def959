"""State dicts of any age, under a module's own names and loaded by torch's own rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from xrt.runtime._io import comma_list, first_line
from xrt.runtime.errors import ModelError

# torchvision's DenseNets before 2018 called their layers norm.1, conv.2; a dot in a module's name was forbidden later.
# Elsewhere `conv.1` is the second layer of a Sequential, as in MobileNet, and stays.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
_LISTED = 6
_CANDIDATES = 12


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
    try:
        # Loading runs the module's own hooks, which rename and reshape the weights of earlier versions.
        missing, unused = (_counted(names) for names in module.load_state_dict(dict(weights), strict=False))
    except RuntimeError as error:
        missing = _counted(name for name in own if name not in weights)
        unused = _counted(name for name in weights if name not in own)
        if not missing:
            raise _misfit(own, weights, origin, error) from error
    if missing:
        raise ModelError(
            f"{origin} lacks {len(missing)} of the model's {len(own)} weights: {comma_list(missing, _LISTED)}"
            + (f"; it has left over: {comma_list(unused, _LISTED)}" if unused else "")
            + "; is it the same architecture with the same head?"
        )
    return unused


def _counted(names: Iterable[str]) -> list[str]:
    """Names without the counters of batches, which no inference reads, and without what is no weight."""
    return [name for name in names if not name.endswith(("num_batches_tracked", "_extra_state"))]


def _misfit(
    own: Mapping[str, torch.Tensor], weights: Mapping[str, torch.Tensor], origin: str, error: RuntimeError
) -> ModelError:
    misfits = [
        f"{name} is {list(weights[name].shape)} and should be {list(own[name].shape)}"
        for name in own
        if name in weights and weights[name].shape != own[name].shape
    ]
    return ModelError(
        f"{origin} does not fit the model: {comma_list(misfits, _LISTED) if misfits else first_line(error)}; give "
        "weights of its width, or where their number of classes differs, name as many --labels"
    )


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in module.state_dict().items() if isinstance(tensor, torch.Tensor)}


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
