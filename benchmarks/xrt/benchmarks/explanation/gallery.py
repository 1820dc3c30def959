"""The sheets about what a survey found: mean heatmaps, top and hard cases, and examples drawn in every way."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from xrt.benchmarks.explanation.classes import MapClass
from xrt.benchmarks.explanation.examples import comparison_figures, example_figures
from xrt.benchmarks.explanation.mean_heatmaps import plot_mean_heatmaps
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.panels import OWN_SCALE, Panels, verdict
from xrt.benchmarks.explanation.selection import examples, hard_cases, top_cases
from xrt.benchmarks.explanation.survey import Survey, class_slug
from xrt.benchmarks.explanation.tiles import Sheet, Tile, rows_of
from xrt.benchmarks.report import Cell, Figure, Section
from xrt.benchmarks.scoring import ScoredImage, stream
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.opening import OpenedSession

_REPORTED_EXAMPLES = 3
_REPORTED_CASES = 6  # a list
_TILE = 168  # pixels
_COLUMNS = 10
_CASE_FILES = ("top_cases.csv", "hard_cases.csv")


@dataclass
class Gallery:
    """Draws what a survey found worth looking at. `figures` are all that it made, in the report or not."""

    bundle: Bundle
    opened: OpenedSession
    panels: Panels
    found: Survey
    options: ExplainOptions

    def __post_init__(self) -> None:
        self.figures: list[Figure] = []

    def mean_section(self) -> Section:
        """The mean heatmap of every class."""
        names = self.panels.classes.names
        text = (
            "The mean, over the findings of a class, of their maps, each divided by its own maximum; above, over the"
            " mean of the same images, all in the frame of the model's input. One scale for all classes.",
        )
        if not any(mean.count for mean in self.found.means):
            return Section("Mean heatmaps", (*text, "Not defined: nothing is predicted that has a map."))
        figure = Figure("Mean heatmaps", "mean_heatmaps.png", plot_mean_heatmaps(names, self.found.means))
        self.figures.append(figure)
        return Section("Mean heatmaps", text, figures=(figure,))

    def cases_section(self, out: Path) -> Section:
        """Top and hard cases: lists of all classes, full sheets, and for the report the first of every list."""
        found, count = self.found, self.options.top_k
        reported = []
        lists: dict[str, list[list[Cell]]] = {file: [] for file in _CASE_FILES}
        for j, c in enumerate(self.panels.classes.every):
            columns = found.probability[:, j], found.predicted[:, j], found.labelled[:, j]
            chosen = {"highest probability": top_cases(columns[0], count)}
            chosen["false positive"], chosen["false negative"] = hard_cases(*columns, count)
            shown = []
            for kind, cases in chosen.items():
                rows = lists[_CASE_FILES[kind != "highest probability"]]
                for rank, case in enumerate(cases, 1):
                    row: list[Cell] = [c.name, kind, rank, found.table.cases[case].key, float(columns[0][case])]
                    rows.append([*row, int(columns[2][case]), int(columns[1][case])])
                tiles = self._tiles(c, j, kind, cases)
                if tiles:
                    sheet = Sheet(f"{c.name}: {kind}", rows_of(tiles, _COLUMNS), side=_TILE, bar=OWN_SCALE)
                    file = f"cases/{class_slug(c)}-{kind.replace(' ', '-')}.png"
                    self.figures.append(Figure(f"{c.name}: {kind}", file, sheet.png()))
                    shown.append(tiles[:_REPORTED_CASES])
            if shown:
                sheet = Sheet(f"{c.name}: highest probability, and most mistaken", shown, side=_TILE, bar=OWN_SCALE)
                reported.append(Figure(c.name, f"cases/{class_slug(c)}.png", sheet.png()))
        self.figures += reported
        for file, rows in lists.items():
            _write_csv(out / file, ("class", "list", "rank", "image", "probability", "label", "predicted"), rows)
        text = (
            f"The first {_REPORTED_CASES} of each list; up to {count} stand in cases/ and in {', '.join(_CASE_FILES)}."
            " False positives by falling probability, false negatives by rising probability: confident and wrong.",
        )
        return Section("Top and hard cases", text, figures=tuple(reported))

    def examples_section(self, also: Sequence[Bundle]) -> Section:
        """A few images drawn in every way."""
        chosen = examples(self.found.probability, self.found.labelled, self.options.examples)
        if not chosen:
            return Section("Examples", ("None were asked for, or no image could be scored.",))
        table = self.found.table
        classes = dict(chosen)
        groups: dict[int, list[Figure]] = {}
        for image in self._stream([case for case, _ in chosen]):
            case = chosen[image.index][0]
            groups[case] = example_figures(self.panels, image, table, case, classes[case], self.options.alphas)
        if also:
            names = [(case, self.panels.classes.names[c]) for case, c in chosen]
            compared = comparison_figures(
                (self.bundle, self.opened),
                also,
                table,
                names,
                backend=self.options.backend,
                precision=self.options.precision,
                batch_size=self.options.batch_size,
            )
            for (case, _), figure in zip(chosen, compared, strict=True):
                groups[case].append(figure)
        self.figures += [figure for group in groups.values() for figure in group]
        reported = [figure for case, _ in chosen[:_REPORTED_EXAMPLES] for figure in groups[case]]
        text = (
            f"The classes in turn give their most certain image that is labelled so. {len(chosen)} stand in examples/,"
            f" the first {min(len(chosen), _REPORTED_EXAMPLES)} here.",
        )
        return Section("Examples", text, figures=tuple(reported))

    def _stream(self, cases: Sequence[int]) -> Iterator[ScoredImage]:
        subset = self.found.table.subset(cases)
        return stream(self.bundle, self.opened, subset, batch_size=self.options.batch_size)

    def _tiles(self, c: MapClass, column: int, kind: str, cases: Sequence[int]) -> list[Tile]:
        """A tile a case, small already, so that a hundred of them need little memory."""
        tiles = []
        for rank, (case, image) in enumerate(zip(cases, self._stream(cases) if cases else (), strict=True), 1):
            decided = verdict(bool(self.found.predicted[case, column]), bool(self.found.labelled[case, column]))
            name = PurePosixPath(self.found.table.cases[case].key).name
            caption = f"{rank}. {kind}", f"p = {self.found.probability[case, column]:.3f}", decided, name
            tile = self.panels.tile(image, c, caption, boxed=bool(self.found.predicted[case, column]))
            small = Image.fromarray(tile.image)
            small.thumbnail((_TILE, _TILE), Image.Resampling.BILINEAR)
            tiles.append(Tile(np.asarray(small), tile.caption))
        return tiles


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
