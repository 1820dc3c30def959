"""The studies, and what makes their recipes small enough for the suite."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Study:
    """A recipe, the layout of its data set, and what makes it small."""

    recipe: str
    layout: str
    small: tuple[str, ...]


SIDE = 64
SMALL = (f"preprocessing.height={SIDE}", f"preprocessing.width={SIDE}", "training.batch_size=8", "training.threads=1")
ONE = "training.epochs=1"
PHASE = "training.phases=[{epochs: 1, lr: 1.0e-3, train: [head]}, {epochs: 1, lr: 1.0e-4, train: [head, last_block]}]"
# Gentle: the head reads tens of thousands of random numbers, and a bold step or two would silence its hidden layer.
HEAD = "training.phases=[{epochs: 1, lr: 1.0e-5, train: [head]}]"
SCRATCH = "model.weights=null"
STUDIES = (
    Study("nih-densenet121", "nih", (*SMALL, ONE)),
    Study("rsna-resnet50", "rsna", (*SMALL, ONE)),
    Study("nih-abnormal-cnn", "nih", (*SMALL, ONE)),
    Study("nih-abnormal", "nih", (*SMALL, PHASE, SCRATCH)),
    Study("nih-lse-resnet50", "nih", (*SMALL, ONE)),
    Study("covid-vgg16", "covid", (*SMALL, HEAD, SCRATCH, "data.per_class=all")),
    Study("covid-densenet201", "covid", (*SMALL, HEAD, SCRATCH, "data.per_class=all")),
)
