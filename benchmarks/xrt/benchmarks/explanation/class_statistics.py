"""One pass over all cases: probabilities, a heatmap file for every finding, and what is averaged over findings."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from xrt.benchmarks.explanation.classes import MapClass
from xrt.benchmarks.explanation.map_statistics import MapStatistics, map_statistics
from xrt.benchmarks.explanation.mean_heatmaps import MeanHeatmap
from xrt.benchmarks.explanation.options import Heatmaps
from xrt.benchmarks.explanation.panels import Panels
from xrt.runtime._io import write_atomically
from xrt.runtime.datasets import CaseTable
from xrt.runtime.scoring import ScoredImage

INDEX = "heatmaps.csv"
_COLUMNS = ("image", "class", "probability", "label", "predicted", "file", "box_x", "box_y", "box_width", "box_height")
_IN_FLIGHT = 64  # heatmaps that wait for a thread
_QUALITY = 92  # of JPEG: a sixth of PNG's size, a twentieth of its time, 0.7 grey levels off on average
Row = tuple[object, ...]


@dataclass(frozen=True)
class ClassStatistics:
    """The results of one pass. Rows of the arrays are the cases of `table`, those that could be scored.

    `without_map` counts, for each class, predicted findings whose map is empty or not among the top K; `of_maps`
    holds the figures of the other findings' maps by output name, a list for each class.
    """

    table: CaseTable
    probability: Float[np.ndarray, "n k"]
    predicted: Bool[np.ndarray, "n k"]
    labelled: Bool[np.ndarray, "n k"]
    means: tuple[MeanHeatmap, ...]
    of_maps: dict[str, list[list[MapStatistics]]]
    without_map: Counter[str]
    files: int


def gather_statistics(
    panels: Panels,
    table: CaseTable,
    images: Iterator[ScoredImage[int]],
    out: Path,
    heatmaps: Heatmaps,
) -> ClassStatistics:
    """Go through the scored `images` of `table` once, writing heatmaps and their index into `out` as they come.

    A file is whole or absent, and is written before its row in the index.
    """
    classes = panels.classes
    labelled = classes.labelled(table)
    means = tuple(MeanHeatmap() for _ in classes.every)
    of_maps: dict[str, list[list[MapStatistics]]] = {o: [[] for _ in classes.every] for o in panels.outputs}
    without_map: Counter[str] = Counter()
    scored: list[int] = []
    probabilities, decisions = [], []
    with _Index(out) as index:
        for image in images:
            predicted = classes.predicted(image.probability[None])[0]
            scored.append(image.key)
            probabilities.append(classes.probability(image.probability[None])[0])
            decisions.append(predicted)
            for j, c in enumerate(classes.every):
                cams = {output: cam for output in panels.outputs if (cam := image.cam(c.logit, output)) is not None}
                empty = not cams or not cams[panels.outputs[0]].max() > 0
                if predicted[j] and empty:
                    without_map[c.name] += 1
                elif predicted[j]:
                    means[j].add(cams[panels.outputs[0]], image.loaded.input)
                    for output, cam in cams.items():
                        of_maps[output][j].append(map_statistics(cam))
                if predicted[j] or heatmaps == "all":
                    key, label = table.cases[image.key].key, bool(labelled[image.key, j])
                    facts = _Facts(key, c, label, bool(predicted[j]), draw=not empty and heatmaps != "none")
                    index.add(image, facts, panels)
    shape = len(scored), len(classes.every)
    return ClassStatistics(
        table=table.subset(scored),
        probability=np.array(probabilities, np.float64).reshape(shape),
        predicted=np.array(decisions, bool).reshape(shape),
        labelled=labelled[scored],
        means=means,
        of_maps=of_maps,
        without_map=without_map,
        files=index.files,
    )


def file_stem(index: int, key: str) -> str:
    """A name for files about a case: its number keeps apart images of the same name in different folders."""
    stem = PurePosixPath(key).stem
    return f"{index:06}-" + _slug(stem)


def class_slug(c: MapClass) -> str:
    """A name for files about a class: its number keeps apart names that differ in characters files cannot have."""
    return f"{c.logit:02}-{_slug(c.name.lower())}"


def _slug(text: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "-" for letter in text)[:60]


@dataclass(frozen=True)
class _Facts:
    """One row of the index. `draw` says whether it gets a heatmap file."""

    key: str
    map_class: MapClass
    labelled: bool
    predicted: bool
    draw: bool


class _Index:
    """Draws and writes heatmaps in threads, and their rows in order. Use it as a context manager."""

    def __init__(self, out: Path) -> None:
        self.files = 0
        self._out = out
        self._waiting: deque[Future[Row]] = deque()

    def __enter__(self) -> _Index:
        self._file = (self._out / INDEX).open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(_COLUMNS)
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="draw")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._write_rows(0)
        finally:
            self._pool.shutdown(cancel_futures=True)
            self._file.close()

    def add(self, image: ScoredImage[int], facts: _Facts, panels: Panels) -> None:
        """Draw the heatmap, where there is one, and note its row."""
        self.files += facts.draw
        self._waiting.append(self._pool.submit(self._draw, image, facts, panels))
        self._write_rows(_IN_FLIGHT)

    def _write_rows(self, leave: int) -> None:
        while len(self._waiting) > leave:
            self._writer.writerow(self._waiting.popleft().result())
            self._file.flush()

    def _draw(self, image: ScoredImage[int], facts: _Facts, panels: Panels) -> Row:
        file, box = "", None
        if facts.draw and (cam := image.cam(facts.map_class.logit, panels.outputs[0])) is not None:
            file = f"heatmaps/{class_slug(facts.map_class)}/{file_stem(image.key, facts.key)}.jpg"
            box = panels.box(image, cam)
            buffer = io.BytesIO()
            overlay = Image.fromarray(panels.draw(image, cam, boxed=True))
            overlay.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
            write_atomically(self._out / file, buffer.getvalue(), sync=False)
        probability = f"{facts.map_class.probability(image.probability):.9g}"
        corners = ("", "", "", "") if box is None else tuple(f"{value:.1f}" for value in box)
        return (facts.key, facts.map_class.name, probability, int(facts.labelled), int(facts.predicted), file, *corners)
