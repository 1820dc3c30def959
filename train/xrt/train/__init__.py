"""Training of chest X-ray classifiers that `xrt export` can export, from recipes.

    from xrt.train import fit, load_recipe

    run = fit(load_recipe("phantoms", ["training.epochs=1"]), "nih", "runs/nih")
    print(run.metrics["test"])

Names are loaded when they are first used: importing the package loads neither torch nor Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xrt.train.checkpoint import CheckpointSpec, load_checkpoint, save_checkpoint
    from xrt.train.data.augmentation import AugmentationSpec
    from xrt.train.models.factory import build_model
    from xrt.train.models.spec import CompactSpec, HeadSpec, ModelSpec, Normalisation, SmallCnnSpec
    from xrt.train.recipes.loader import known_recipes, load_recipe
    from xrt.train.recipes.spec import DataSpec, LossSpec, OptimSpec, PhaseSpec, Recipe, TrainingSpec
    from xrt.train.search.grid import Grid, load_grid
    from xrt.train.search.search import search_grid
    from xrt.train.training.fit import Run, fit

_MODULES = {
    "xrt.train.checkpoint": ("CheckpointSpec", "load_checkpoint", "save_checkpoint"),
    "xrt.train.data.augmentation": ("AugmentationSpec",),
    "xrt.train.models.factory": ("build_model",),
    "xrt.train.models.spec": ("CompactSpec", "HeadSpec", "ModelSpec", "Normalisation", "SmallCnnSpec"),
    "xrt.train.recipes.loader": ("known_recipes", "load_recipe"),
    "xrt.train.recipes.spec": ("DataSpec", "LossSpec", "OptimSpec", "PhaseSpec", "Recipe", "TrainingSpec"),
    "xrt.train.search.grid": ("Grid", "load_grid"),
    "xrt.train.search.search": ("search_grid",),
    "xrt.train.training.fit": ("Run", "fit"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AugmentationSpec",
    "CheckpointSpec",
    "CompactSpec",
    "DataSpec",
    "Grid",
    "HeadSpec",
    "LossSpec",
    "ModelSpec",
    "Normalisation",
    "OptimSpec",
    "PhaseSpec",
    "Recipe",
    "Run",
    "SmallCnnSpec",
    "TrainingSpec",
    "build_model",
    "fit",
    "known_recipes",
    "load_checkpoint",
    "load_grid",
    "load_recipe",
    "save_checkpoint",
    "search_grid",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
