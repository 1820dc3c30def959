"""Fine-tuning in phases: which modules learn, at which rate, and since when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from xrt.runtime.errors import UsageError
from xrt.train.models import ModelSpec, head_path, last_block
from xrt.train.recipes.spec import PhaseSpec, Recipe


class Phases:
    """The phases of a run and the current one. A run without phases has one, in which everything learns."""

    def __init__(self, recipe: Recipe) -> None:
        """Begin with the first phase."""
        whole = PhaseSpec(epochs=recipe.training.epochs, lr=recipe.optim.lr)
        self.specs = recipe.training.phases or (whole,)
        self.index = 0
        self.first_epoch = 0
        self.first_step = 0
        self._model = recipe.model

    @property
    def current(self) -> PhaseSpec:
        """The phase that the run is in."""
        return self.specs[self.index]

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.specs)

    def advance(self, epoch: int, step: int) -> bool:
        """Begin the next phase at that epoch and batch (counted from 0 over the run); False if there is none."""
        if self.index + 1 == len(self.specs):
            return False
        self.index += 1
        self.first_epoch, self.first_step = epoch, step
        return True

    def apply(self, model: nn.Module) -> None:
        """Let the modules of the phase learn and freeze all others: no gradients, norms and dropout in evaluation."""
        model.requires_grad_(False).eval()
        for path in module_paths(self.current.train, self._model):
            model.get_submodule(path).requires_grad_().train()

    def check(self, model: nn.Module) -> None:
        """Raise UsageError if any phase names a module that the model does not have.

        Nothing is frozen yet: several processes exchange gradients only of what can learn when they begin.
        """
        for path in (path for spec in self.specs for path in module_paths(spec.train, self._model)):
            try:
                model.get_submodule(path)
            except AttributeError as error:
                children = ", ".join(name for name, _ in model.named_children())
                raise UsageError(
                    f"training.phases names {path!r}, which the model does not have; it begins with {children}; head,"
                    " last_block and all can be named too"
                ) from error

    def state_dict(self) -> dict[str, Any]:
        """Where the run is."""
        return {"index": self.index, "first_epoch": self.first_epoch, "first_step": self.first_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.index, self.first_epoch, self.first_step = state["index"], state["first_epoch"], state["first_step"]


def module_paths(names: Iterable[str], model: ModelSpec) -> list[str]:
    """The module paths of `head`, `last_block` and `all`, and other paths as they are."""
    paths: list[str] = []
    for name in names:
        if name == "all":
            paths.append("")
        elif name == "head":
            paths.append(head_path(model))
        elif name == "last_block":
            paths += last_block(model)
        else:
            paths.append(name)
    return paths
