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
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from xrt.benchmarks.explanation.classes import MapClass
from xrt.benchmarks.explanation.mean_heatmaps import MeanHeatmap
from xrt.benchmarks.explanation.panels import Panels
from xrt.benchmarks.explanation.statistics import MapStatistics, map_statistics
from xrt.benchmarks.scoring import ScoredImage, Unscored
from xrt.runtime.cases import CaseTable

Heatmaps = Literal["positive", "all", "none"]
INDEX = "heatmaps.csv"
_COLUMNS = ("image", "class", "probability", "label", "predicted", "file", "box_x", "box_y", "box_width", "box_height")
_IN_FLIGHT = 64  # heatmaps that wait for a thread
_QUALITY = 92  # of JPEG: a sixth of PNG's size, a twentieth of its time, 0.7 grey levels off on average
Row = tuple[object, ...]


@dataclass(frozen=True)
class Survey:
    """What one pass found. Rows of the arrays are the cases of `table`, those that could be scored.

    `without_map` counts, for each class, predicted findings whose map is empty or not among the top K; `statistics`
    holds the figures of the other findings' maps by output name, a list for each class.
    """

    table: CaseTable
    probability: Float[np.ndarray, "n k"]
    predicted: Bool[np.ndarray, "n k"]
    labelled: Bool[np.ndarray, "n k"]
    means: tuple[MeanHeatmap, ...]
    statistics: dict[str, list[list[MapStatistics]]]
    without_map: Counter[str]
    files: int
    unscored: tuple[Unscored, ...]


def survey(
    panels: Panels,
    table: CaseTable,
    images: Iterator[ScoredImage],
    unscored: list[Unscored],
    out: Path,
    which: Heatmaps,
) -> Survey:
    """Go through the scored `images` of `table` once, writing heatmaps and their index into `out` as they come.

    A file is whole or absent, and stands before its row in the index does.
    """
    classes = panels.classes
    labelled = classes.labelled(table)
    means = tuple(MeanHeatmap() for _ in classes.every)
    statistics: dict[str, list[list[MapStatistics]]] = {o: [[] for _ in classes.every] for o in panels.outputs}
    without_map: Counter[str] = Counter()
    scored: list[int] = []
    probabilities, decisions = [], []
    with _Index(out) as index:
        for image in images:
            predicted = classes.predicted(image.probability[None])[0]
            scored.append(image.index)
            probabilities.append(classes.probability(image.probability[None])[0])
            decisions.append(predicted)
            for j, c in enumerate(classes.every):
                cams = {output: cam for output in panels.outputs if (cam := image.cam(c.logit, output)) is not None}
                empty = not cams or not cams[panels.outputs[0]].max() > 0
                if predicted[j] and empty:
                    without_map[c.name] += 1
                elif predicted[j]:
                    means[j].add(cams[panels.outputs[0]], image.input)
                    for output, cam in cams.items():
                        statistics[output][j].append(map_statistics(cam))
                if predicted[j] or which == "all":
                    facts = _Facts(table.cases[image.index].key, c, bool(labelled[image.index, j]), bool(predicted[j]))
                    drawn = not empty and which != "none"
                    index.add(image, facts, panels, drawn)
    shape = len(scored), len(classes.every)
    return Survey(
        table=table.subset(scored),
        probability=np.array(probabilities, np.float64).reshape(shape),
        predicted=np.array(decisions, bool).reshape(shape),
        labelled=labelled[scored],
        means=means,
        statistics=statistics,
        without_map=without_map,
        files=index.files,
        unscored=tuple(unscored),
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
    key: str
    shown: MapClass
    labelled: bool
    predicted: bool


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

    def add(self, image: ScoredImage, facts: _Facts, panels: Panels, drawn: bool) -> None:
        """Draw the heatmap if it is to be `drawn`, and note it."""
        self.files += drawn
        self._waiting.append(self._pool.submit(self._draw, image, facts, panels, drawn))
        self._write_rows(_IN_FLIGHT)

    def _write_rows(self, leave: int) -> None:
        while len(self._waiting) > leave:
            self._writer.writerow(self._waiting.popleft().result())
            self._file.flush()

    def _draw(self, image: ScoredImage, facts: _Facts, panels: Panels, drawn: bool) -> Row:
        file, box = "", None
        if drawn and (cam := image.cam(facts.shown.logit, panels.outputs[0])) is not None:
            file = f"heatmaps/{class_slug(facts.shown)}/{file_stem(image.index, facts.key)}.jpg"
            box = panels.box(image, cam)
            buffer = io.BytesIO()
            overlay = Image.fromarray(panels.draw(image, cam, boxed=True))
            overlay.save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
            replace_file(self._out / file, buffer.getvalue())
        probability = f"{facts.shown.probability(image.probability):.9g}"
        corners = ("", "", "", "") if box is None else tuple(f"{value:.1f}" for value in box)
        return (facts.key, facts.shown.name, probability, int(facts.labelled), int(facts.predicted), file, *corners)


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or absent when the process is killed (a power cut is another matter)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_bytes(data)
    scratch.replace(path)
