"""Perturbation curves: walks from one image to another, a few cells of the map's grid at a time.

All measures of faithfulness are such walks, in the order of the map's heat and, as the baseline, in random orders:

| walk | from | to | hottest cells | measure |
|---|---|---|---|---|
| MoRF | the image | perturbed | first | AOPC (Samek et al. 2017, arXiv 1509.06321): high is good |
| LeRF | the image | perturbed | last | AOPC: low is good |
| deletion | the image | its mean grey | first | area under the curve, AUC (Petsiuk et al. 2018): low is good |
| insertion | blurred | the image | first | AUC: high is good |

The cells are those of the map before it is interpolated: finer regions would measure the interpolation. Both ends of
a walk are the same for every order, noise included, so that orders are compared in pairs. (Petsiuk et al. 2018 is
arXiv 1806.07421.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from xrt.benchmarks.faithfulness.perturbations import PERTURBATIONS, Perturbation, Pixels, Strength, blur, mean
from xrt.runtime.backends import Session

Order = Int[np.ndarray, " cells"]
"""The place of every cell in the walk, 0 first."""


@dataclass(frozen=True)
class PerturbationPath:
    """One walk. `reverse` takes the coolest cells first."""

    name: str
    start: Pixels
    end: Pixels
    reverse: bool = False


@dataclass(frozen=True)
class Walks:
    """All walks of one image: every path in every order. `cells` [H, W] says which cell each pixel belongs to.

    `counts` [steps + 1], from 0 to all, are the numbers of cells that have been replaced after each step.
    """

    case: int
    paths: tuple[PerturbationPath, ...]
    orders: tuple[Order, ...]
    cells: Int[np.ndarray, "height width"]
    counts: Int[np.ndarray, " steps_and_one"]

    @property
    def size(self) -> int:
        """How many images have to be scored."""
        return len(self.paths) * (2 + len(self.orders) * (len(self.counts) - 2))

    def images(self) -> Iterator[Pixels]:
        """The images to be scored: of each path both ends, then what lies between, order by order."""
        for path in self.paths:
            yield path.start
            yield path.end
            for order in self.orders:
                places = len(order) - 1 - order if path.reverse else order
                place = places[self.cells]
                for count in self.counts[1:-1]:
                    yield np.where(place < count, path.end, path.start)

    def arrange(
        self, logits: Float32[np.ndarray, "images logits"]
    ) -> Float32[np.ndarray, "paths orders points logits"]:
        """The logits of `images()` along every walk."""
        steps = len(self.counts)
        result = np.empty((len(self.paths), len(self.orders), steps, logits.shape[1]), np.float32)
        of_path = logits.reshape(len(self.paths), -1, logits.shape[1])
        result[:, :, 0] = of_path[:, None, 0]
        result[:, :, -1] = of_path[:, None, 1]
        result[:, :, 1:-1] = of_path[:, 2:].reshape(len(self.paths), len(self.orders), steps - 2, -1)
        return result


def cells_of(height: int, width: int, rows: int, columns: int) -> Int[np.ndarray, "height width"]:
    """The cell, row by row, of a grid [rows, columns] to which the centre of every pixel of the input belongs."""
    row = ((np.arange(height) + 0.5) * rows / height).astype(np.int64)
    column = ((np.arange(width) + 0.5) * columns / width).astype(np.int64)
    return row[:, None] * columns + column


def heat_order(cam: Float32[np.ndarray, "h w"], rng: np.random.Generator) -> Order:
    """The hottest cell first. Equal cells, such as all that the ReLU made zero, come in random order."""
    ranked = np.lexsort((rng.random(cam.size), -cam.ravel()))
    order = np.empty(cam.size, np.int64)
    order[ranked] = np.arange(cam.size)
    return order


def step_counts(cells: int, steps: int) -> Int[np.ndarray, " steps_and_one"]:
    """How many cells are replaced after each of `steps` equal steps, or after each cell where there are fewer."""
    steps = min(steps, cells)
    return np.rint(np.arange(steps + 1) * cells / steps).astype(np.int64)


def path_names(*, least_first: bool) -> tuple[str, ...]:
    """The walks of an image: MoRF, LeRF if asked for, deletion and insertion."""
    return ("MoRF", *(("LeRF",) if least_first else ()), "deletion", "insertion")


def paths_of(
    image: Pixels, perturbation: Perturbation, strength: Strength, rng: np.random.Generator, *, least_first: bool
) -> tuple[PerturbationPath, ...]:
    """The walks of an image, in the order of `path_names`."""
    perturbed = PERTURBATIONS[perturbation](image, strength, rng)
    paths = {
        "MoRF": PerturbationPath("MoRF", image, perturbed),
        "LeRF": PerturbationPath("LeRF", image, perturbed, reverse=True),
        "deletion": PerturbationPath("deletion", image, mean(image, strength, rng)),
        "insertion": PerturbationPath("insertion", blur(image, strength, rng), image),
    }
    return tuple(paths[name] for name in path_names(least_first=least_first))


def walk(
    session: Session[Any], every: Iterable[Walks], batch_size: int
) -> Iterator[tuple[Walks, Float32[np.ndarray, "paths orders points logits"]]]:
    """Score the images of all walks; batches are filled across images, and walks come back in order."""
    waiting: deque[Walks] = deque()
    batch: list[UInt8[np.ndarray, "height width"]] = []
    rows: list[np.ndarray] = []

    def score(images: Sequence[np.ndarray]) -> None:
        rows.extend(session.infer(np.stack(images)[:, None], cams=False).logits)

    def finished() -> Iterator[tuple[Walks, np.ndarray]]:
        while waiting and len(rows) >= waiting[0].size:
            walks = waiting.popleft()
            yield walks, walks.arrange(np.stack(rows[: walks.size]))
            del rows[: walks.size]

    for walks in every:
        waiting.append(walks)
        for image in walks.images():
            batch.append(image)
            if len(batch) == batch_size:
                score(batch)
                batch = []
        yield from finished()
    if batch:
        score(batch)
    yield from finished()
