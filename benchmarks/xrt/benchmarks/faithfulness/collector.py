"""From scored images to walks, and from scored walks to curves."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float32

from xrt.benchmarks.contrasts import contrast_of, read_contrasts
from xrt.benchmarks.explanation.classes import MapClass, MapClasses
from xrt.benchmarks.faithfulness.figures import FindingCurves
from xrt.benchmarks.faithfulness.options import FaithfulnessOptions
from xrt.benchmarks.faithfulness.perturbation_curves import Walks, cells_of, heat_order, paths_of, step_counts
from xrt.benchmarks.faithfulness.perturbations import Strength
from xrt.benchmarks.localisation import BoxedFinding, ImageFrame, boxed_finding
from xrt.runtime.datasets import CaseTable
from xrt.runtime.decisions import probabilities
from xrt.runtime.errors import UsageError
from xrt.runtime.scoring import ScoredImage
from xrt.runtime.session import OpenedSession


class Collector:
    """Turns scored images into walks, and scored walks into curves; collects boxed findings meanwhile."""

    def __init__(self, opened: OpenedSession, table: CaseTable, options: FaithfulnessOptions) -> None:
        manifest, spec = opened.manifest, opened.manifest.preprocessing
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

    def walks(self, images: Iterator[ScoredImage[int]]) -> Iterator[Walks]:
        """The walks of every image that has a finding with a map."""
        options = self._options
        # Half a cell is a length only if cells are about square; of others, the longer side counts.
        strength = Strength(options.sigma, max(self._size[0] / self.grid[0], self._size[1] / self.grid[1]))
        for image in images:
            maps = self._maps(image)
            if not maps:
                continue
            key = self._table.cases[image.key].key
            # One generator per image, so that neither the order nor the number of the others changes it.
            rng = np.random.default_rng([options.seed, zlib.crc32(key.encode())])
            paths = paths_of(image.loaded.input, options.perturbation, strength, rng, least_first=options.least_first)
            random = [rng.permutation(self._cells.max() + 1) for _ in range(options.random_orders)]
            orders = [heat_order(cam, rng) for _, cam in maps]
            self._waiting[image.key] = [c for c, _ in maps]
            yield Walks(image.key, paths, (*orders, *random), self._cells, self.counts)

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

    def _maps(self, image: ScoredImage[int]) -> list[tuple[MapClass, Float32[np.ndarray, "h w"]]]:
        """The findings of an image that count, with their maps; notes those that do not, and those with boxes."""
        case = self._table.cases[image.key]
        predicted = self.classes.predicted(image.probability[None])[0]
        maps = []
        for j, c in enumerate(self.classes.every):
            boxes = [labelled.box for labelled in case.boxes if labelled.label == c.name]
            if not predicted[j]:
                self.missed += bool(boxes)
                continue
            cam = image.cam(c.logit, self.output)
            if cam is None:
                self.left_out["not among the classes that the graph explains for this image"] += 1
                continue
            if boxes:
                frame = ImageFrame(image.loaded.placement, self._size, image.loaded.size)
                contrast = self._contrast(image.key, c)
                self.boxed.append(boxed_finding(image.key, c.name, cam, boxes, frame, contrast))
            if not cam.max() > 0:
                self.left_out["the map is empty"] += 1
            elif self._options.correct_only and not self._labelled[image.key, j]:
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
