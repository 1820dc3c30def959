"""A tiny labelled data set, and a recipe that learns it in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MedMNIST file of 200 noisy 28 px images: 160, 20 and 20; every other one has a bright blob, class 1."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    arrays: dict[str, np.ndarray] = {}
    for split, count in (("train", 160), ("val", 20), ("test", 20)):
        labels = np.arange(count) % 2
        images = random.normal(100, 15, (count, 28, 28))
        for image, label in zip(images, labels, strict=True):
            row, column = random.uniform(7, 21, 2)
            image += label * 80 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 18)
        arrays[f"{split}_images"] = images.clip(0, 255).astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    path = tmp_path_factory.mktemp("blobs") / "pneumoniamnist.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Overrides that make the recipe `pneumoniamnist` fit for that file."""
    return [
        "model.compact.widths=[8, 16, 16]",
        "model.compact.blocks=[0, 0, 0]",
        "training.epochs=6",
        "training.batch_size=16",
        "training.ema=0.9",
        "training.precision=fp32",
        "training.threads=1",
        "optim.lr=1e-2",
    ]
