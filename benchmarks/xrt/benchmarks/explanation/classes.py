"""The classes that maps explain: of a one-logit model one of its two classes, and it may be the negative."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.datasets import CaseTable
from xrt.runtime.decisions import positives
from xrt.runtime.errors import UsageError


@dataclass(frozen=True)
class MapClass:
    """A class with maps: the logit that they explain, and `sign` -1 where they explain that logit's absence."""

    name: str
    logit: int
    sign: int = 1

    def probability(self, probability: Float[np.ndarray, "*n logits"]) -> Float[np.ndarray, "*n"]:
        """The probability of this class."""
        column = probability[..., self.logit]
        return column if self.sign > 0 else 1 - column


@dataclass(frozen=True)
class MapClasses:
    """All classes of a bundle that have maps: their probabilities, which are predicted, and which are labelled."""

    manifest: Manifest
    every: tuple[MapClass, ...]

    @classmethod
    def of(cls, manifest: Manifest, names: Sequence[str] = ()) -> MapClasses:
        """Those of a bundle, or those of `names` alone. Raises UsageError for a name that has no maps."""
        graph = manifest.graph
        logits = range(len(manifest.logit_classes)) if graph.explained is None else graph.explained
        absent = manifest.task == "binary" and manifest.explained_class == 0
        every = {manifest.map_class(i): MapClass(manifest.map_class(i), i, -1 if absent else 1) for i in logits}
        strangers = [name for name in names if name not in every]
        if strangers:
            raise UsageError(f"the bundle explains no class {strangers[0]!r}; it explains {', '.join(every)}")
        return cls(manifest, tuple(every[name] for name in dict.fromkeys(names or every)))

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names."""
        return tuple(c.name for c in self.every)

    def probability(self, probability: Float[np.ndarray, "n logits"]) -> Float[np.ndarray, "n k"]:
        """Probabilities of these classes."""
        return np.stack([c.probability(probability) for c in self.every], axis=1)

    def predicted(self, probability: Float[np.ndarray, "n logits"]) -> Bool[np.ndarray, "n k"]:
        """Which of these classes are predicted: findings, or for a negative class that there is none."""
        return self._columns(positives(probability, self.manifest))

    def labelled(self, table: CaseTable) -> Bool[np.ndarray, "n k"]:
        """Which of these classes the labels name."""
        return self._columns(table.labels.astype(bool))

    def _columns(self, decided: Bool[np.ndarray, "n logits"]) -> Bool[np.ndarray, "n k"]:
        return np.stack([decided[:, c.logit] == (c.sign > 0) for c in self.every], axis=1)
