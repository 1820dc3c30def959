"""`measure`: the faithfulness of a bundle's maps on labelled cases, and their agreement with drawn boxes."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from xrt.benchmarks.contrasts import contrast_of, read_contrasts
from xrt.benchmarks.explanation.classes import MapClass, MapClasses
from xrt.benchmarks.faithfulness.figures import Faithfulness, FindingCurves, summarise
from xrt.benchmarks.faithfulness.paths import Walks, cells_of, heat_order, path_names, paths_of, step_counts, walk
from xrt.benchmarks.faithfulness.perturbations import Perturbation, Strength
from xrt.benchmarks.localisation import BoxedFinding, Localisation, boxed_finding, localise
from xrt.benchmarks.scoring import Progress, ScoredImage, Unscored, stream
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import DataError, UsageError
from xrt.runtime.opening import OpenedSession


@dataclass(frozen=True)
class FaithfulnessOptions:
    """How faithfulness is measured.

    `sigma` is the deviation of `noise` in shares of the grey range; `steps` bounds the steps of a walk (a cell at a
    time where the grid has fewer); `correct_only` leaves out findings that the labels do not name; `least_first` adds
    LeRF; `random_orders` is the number of random orders an image; `cams` names the map output (None: the first).
    """

    perturbation: Perturbation = "noise"
    sigma: float = 0.1
    steps: int = 16
    correct_only: bool = False
    least_first: bool = False
    random_orders: int = 2
    cams: str | None = None
    seed: int = 0
    batch_size: int = 32
    allow_unscored: float = 0.05

    def __post_init__(self) -> None:
        """Raise UsageError for values out of range."""
        if not 0 < self.sigma <= 1:
            raise UsageError(f"sigma is a share of the grey range, above 0 and at most 1, not {self.sigma:g}")
        if self.steps < 2 or self.random_orders < 1:
            raise UsageError(
                f"a walk has 2 steps or more and 1 random order or more, not {self.steps} and {self.random_orders}"
            )


@dataclass(frozen=True)
class FaithfulnessResult:
    """All figures, and what they rest on.

    `left_out` counts findings by the reason; `missed` the boxed lesions whose class is not predicted; `counts` are the
    numbers of cells replaced after each step.
    """

    provenance: dict[str, Any]
    options: FaithfulnessOptions
    images: int
    grid: tuple[int, int]
    paths: tuple[str, ...]
    counts: Int[np.ndarray, " points"]
    curves: tuple[FindingCurves, ...]
    faithfulness: tuple[Faithfulness, ...]
    localisation: tuple[Localisation, ...]
    left_out: dict[str, int]
    missed: int
    unscored: tuple[Unscored, ...]

    @property
    def nothing(self) -> str | None:
        """Why there is no finding to measure, where there is none."""
        if self.curves:
            return None
        reasons = ", ".join(f"{count} left out: {reason}" for reason, count in self.left_out.items())
        return (
            f"no finding to measure in {self.images} images ({reasons or 'none predicted'}), so no figure is defined:"
            " choose other cases, or lower the thresholds"
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, without the curves of single findings."""
        return {
            **self.provenance,
            "options": asdict(self.options),
            "images": self.images,
            "findings": len(self.curves),
            "left_out": self.left_out,
            "unscored": [asdict(u) for u in self.unscored],
            "grid": list(self.grid),
            "cells_replaced": self.counts.tolist(),
            "faithfulness": [asdict(row) for row in self.faithfulness],
            "boxed_lesions_not_predicted": self.missed,
            "localisation": [asdict(row) for row in self.localisation],
        }


def measure(
    bundle: Bundle,
    opened: OpenedSession,
    table: CaseTable,
    part: str,
    options: FaithfulnessOptions,
    *,
    progress: Progress = lambda done, total: None,
) -> FaithfulnessResult:
    """Measure the maps of all predicted findings. Deterministic for a seed, whatever the batch size.

    Where there is no finding to measure, no figure is defined. Raises DataError when too many images cannot be scored,
    or none can, UsageError for a map output that the bundle does not have.
    """
    collected = _Collector(bundle, table, options)
    unscored: list[Unscored] = []
    images = stream(
        bundle,
        opened,
        table,
        batch_size=options.batch_size,
        allow_unscored=options.allow_unscored,
        unscored=unscored,
        progress=progress,
    )
    curves: list[FindingCurves] = []
    for walks, logits in walk(opened.session, collected.walks(images), options.batch_size):
        curves += collected.curves(walks, logits)
    if len(unscored) == len(table):
        raise DataError(
            f"{table.name}, part {part}: none of {len(table)} images could be scored, the first: {unscored[0].reason}"
            if unscored
            else f"{table.name}, part {part} has no cases: choose other ones"
        )
    paths = path_names(least_first=options.least_first)
    names = collected.classes.names
    return FaithfulnessResult(
        provenance={
            "bundle": bundle.manifest.name,
            "bundle_sha256": bundle.sha256,
            "variant": opened.variant.file,
            "backend": f"{opened.backend.name} {opened.backend.version()}",
            "dataset": table.name,
            "part": part,
            "notes": list(table.notes),
            "cams": collected.output,
        },
        options=options,
        images=len(table) - len(unscored),
        grid=collected.grid,
        paths=paths,
        counts=collected.counts,
        curves=tuple(curves),
        faithfulness=tuple(summarise(names, paths, collected.counts, curves, seed=options.seed)),
        localisation=tuple(localise(names, collected.boxed, seed=options.seed)) if collected.boxed else (),
        left_out=dict(collected.left_out),
        missed=collected.missed,
        unscored=tuple(unscored),
    )


class _Collector:
    """Turns scored images into walks, and scored walks into curves; collects boxed findings on the way."""

    def __init__(self, bundle: Bundle, table: CaseTable, options: FaithfulnessOptions) -> None:
        manifest, spec = bundle.manifest, bundle.manifest.preprocessing
        outputs = {cam.output: cam for cam in manifest.graph.cams}
        self.output = options.cams or manifest.graph.cams[0].output
        if self.output not in outputs:
            raise UsageError(f"the bundle has no map output {self.output!r}; it has {', '.join(outputs)}")
        self.grid = outputs[self.output].height, outputs[self.output].width
        self.counts = step_counts(self.grid[0] * self.grid[1], options.steps)
        self.classes = MapClasses.of(manifest)
        self.left_out: Counter[str] = Counter()
        self.boxed: list[BoxedFinding] = []
        self.missed = 0
        self._manifest, self._table, self._options = manifest, table, options
        self._size = spec.height, spec.width
        self._cells = cells_of(*self._size, *self.grid)
        self._labelled = self.classes.labelled(table)
        self._contrasts = read_contrasts(table.root)
        self._waiting: dict[int, list[MapClass]] = {}

    def walks(self, images: Iterator[ScoredImage]) -> Iterator[Walks]:
        """The walks of every image that has a finding with a map."""
        options = self._options
        # Half a cell is a length only if cells are about square; of others, the longer side counts.
        strength = Strength(options.sigma, max(self._size[0] / self.grid[0], self._size[1] / self.grid[1]))
        for image in images:
            maps = self._maps(image)
            if not maps:
                continue
            key = self._table.cases[image.index].key
            # Of its own for every image, so that neither the order nor the number of the others changes it.
            rng = np.random.default_rng([options.seed, zlib.crc32(key.encode())])
            paths = paths_of(image.input, options.perturbation, strength, rng, least_first=options.least_first)
            random = [rng.permutation(self._cells.max() + 1) for _ in range(options.random_orders)]
            orders = [heat_order(cam, rng) for _, cam in maps]
            self._waiting[image.index] = [c for c, _ in maps]
            yield Walks(image.index, paths, (*orders, *random), self._cells, self.counts)

    def curves(
        self, walks: Walks, logits: Float32[np.ndarray, "paths orders points logits"]
    ) -> Iterator[FindingCurves]:
        """One for each finding of the image."""
        probability = probabilities(logits.reshape(-1, logits.shape[-1]), self._manifest).reshape(logits.shape)
        classes = self._waiting.pop(walks.case)
        for own, c in enumerate(classes):
            yield FindingCurves(
                case=walks.case,
                name=c.name,
                contrast=self._contrast(walks.case, c),
                probability=_map_and_random(c.probability(probability), own, len(classes)),
                logit=_map_and_random(c.sign * logits[..., c.logit].astype(np.float64), own, len(classes)),
            )

    def _maps(self, image: ScoredImage) -> list[tuple[MapClass, Float32[np.ndarray, "h w"]]]:
        """The findings of an image that count, with their maps; notes those that do not, and those with boxes."""
        case = self._table.cases[image.index]
        predicted = self.classes.predicted(image.probability[None])[0]
        maps = []
        for j, c in enumerate(self.classes.every):
            boxes = [box for box in case.boxes if box.label == c.name]
            if not predicted[j]:
                self.missed += bool(boxes)
                continue
            cam = image.cam(c.logit, self.output)
            if cam is None:
                self.left_out["not among the classes that the graph explains for this image"] += 1
                continue
            if boxes:
                contrast = self._contrast(image.index, c)
                found = boxed_finding(
                    image.index, c.name, cam, boxes, image.placement, self._size, image.size, contrast
                )
                self.boxed.append(found)
            if not cam.max() > 0:
                self.left_out["the map is empty"] += 1
            elif self._options.correct_only and not self._labelled[image.index, j]:
                self.left_out["predicted, but not labelled"] += 1
            else:
                maps.append((c, cam))
        return maps

    def _contrast(self, case: int, c: MapClass) -> float | None:
        return contrast_of(self._contrasts, self._table.cases[case].key, c.name)


def _map_and_random(
    curves: Float[np.ndarray, "paths orders points"], own: int, maps: int
) -> Float[np.ndarray, "paths 2 points"]:
    """The finding's own order, and the mean of the random ones, which follow the `maps` orders of the image's maps."""
    return np.stack([curves[:, own], curves[:, maps:].mean(axis=1)], axis=1)
