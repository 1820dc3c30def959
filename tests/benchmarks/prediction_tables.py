"""Tables of predictions for tests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

NAMES = ("Mass", "Nodule", "Effusion")


def draw(count: int, seed: int = 0, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities [n, 3] of a model that is fair but not perfect, with ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random((count, 3)) < (0.4, 0.25, 0.1)
    logits = 2.0 * labels - 1.0 + noise * rng.standard_normal((count, 3))
    return labels, np.round(1 / (1 + np.exp(-logits)), 3)


def write(path: Path, labels, probability, *, names=NAMES, keys=None, **columns) -> Path:
    """A CSV of predictions; `columns` are further ones, by name."""
    keys = keys or [f"image-{i}.png" for i in range(len(probability))]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        given = [] if labels is None else [f"label:{name}" for name in names]
        writer.writerow(["image", *columns, *given, *(f"probability:{name}" for name in names)])
        for i, key in enumerate(keys):
            own = [] if labels is None else [int(v) for v in labels[i]]
            writer.writerow([key, *(values[i] for values in columns.values()), *own, *probability[i]])
    return path
