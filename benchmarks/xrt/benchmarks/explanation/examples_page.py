"""The sheets of an explanation: mean heatmaps, top and hard cases, and examples drawn in every way."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from xrt.benchmarks.explanation.class_statistics import ClassStatistics, class_slug
from xrt.benchmarks.explanation.classes import MapClass
from xrt.benchmarks.explanation.examples import comparison_figures, example_figures
from xrt.benchmarks.explanation.mean_heatmaps import plot_mean_heatmaps
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.panels import OWN_SCALE, Panels, verdict
from xrt.benchmarks.explanation.selection import choose_examples, hard_cases, top_cases
from xrt.benchmarks.explanation.tiles import Sheet, Tile, rows_of
from xrt.benchmarks.report import Cell, Figure, Section
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.scoring import ScoredImage, stream_cases
from xrt.runtime.session import OpenedSession

_REPORTED_EXAMPLES = 3
_REPORTED_CASES = 6  # a list
_TILE = 168  # pixels
_COLUMNS = 10
_CASE_FILES = ("top_cases.csv", "hard_cases.csv")


class ExamplesPage:
    """Draws the sheets of a report from the statistics of one pass. `figures` are all of them, in the report or not."""

    def __init__(
        self, opened: OpenedSession, panels: Panels, statistics: ClassStatistics, options: ExplainOptions
    ) -> None:
        self.figures: list[Figure] = []
        self._opened, self._panels, self._statistics, self._options = opened, panels, statistics, options

    def mean_section(self) -> Section:
        """The mean heatmap of every class."""
        names = self._panels.classes.names
        text = (
            "The mean, over the findings of a class, of their maps, each divided by its own maximum; above, over the"
            " mean of the same images, all in the frame of the model's input. One scale for all classes.",
        )
        if not any(mean.count for mean in self._statistics.means):
            return Section("Mean heatmaps", (*text, "Not defined: nothing is predicted that has a map."))
        figure = Figure("Mean heatmaps", "mean_heatmaps.png", plot_mean_heatmaps(names, self._statistics.means))
        self.figures.append(figure)
        return Section("Mean heatmaps", text, figures=(figure,))

    def cases_section(self, out: Path) -> Section:
        """Top and hard cases: lists of all classes, full sheets, and for the report the first of every list."""
        statistics, count = self._statistics, self._options.top_k
        reported = []
        lists: dict[str, list[list[Cell]]] = {file: [] for file in _CASE_FILES}
        for j, c in enumerate(self._panels.classes.every):
            columns = statistics.probability[:, j], statistics.predicted[:, j], statistics.labelled[:, j]
            cases_of = {"highest probability": top_cases(columns[0], count)}
            cases_of["false positive"], cases_of["false negative"] = hard_cases(*columns, count)
            best: list[list[Tile]] = []
            for kind, cases in cases_of.items():
                rows = lists[_CASE_FILES[kind != "highest probability"]]
                for rank, case in enumerate(cases, 1):
                    row: list[Cell] = [c.name, kind, rank, statistics.table.cases[case].key, float(columns[0][case])]
                    rows.append([*row, int(columns[2][case]), int(columns[1][case])])
                tiles = self._tiles(c, j, kind, cases)
                if tiles:
                    sheet = Sheet(f"{c.name}: {kind}", rows_of(tiles, _COLUMNS), side=_TILE, bar=OWN_SCALE)
                    file = f"cases/{class_slug(c)}-{kind.replace(' ', '-')}.png"
                    self.figures.append(Figure(f"{c.name}: {kind}", file, sheet.png()))
                    best.append(tiles[:_REPORTED_CASES])
            if best:
                sheet = Sheet(f"{c.name}: highest probability, and most mistaken", best, side=_TILE, bar=OWN_SCALE)
                reported.append(Figure(c.name, f"cases/{class_slug(c)}.png", sheet.png()))
        self.figures += reported
        for file, rows in lists.items():
            _write_csv(out / file, ("class", "list", "rank", "image", "probability", "label", "predicted"), rows)
        text = (
            f"The first {_REPORTED_CASES} of each list; up to {count} are in cases/ and in {', '.join(_CASE_FILES)}."
            " False positives by falling probability, false negatives by rising probability: confident and wrong.",
        )
        return Section("Top and hard cases", text, figures=tuple(reported))

    def examples_section(self, others: Sequence[Bundle]) -> Section:
        """A few images drawn in every way; with other bundles, also as these explain them."""
        statistics, options, classes = self._statistics, self._options, self._panels.classes
        examples = choose_examples(statistics.probability, statistics.labelled, options.examples)
        if not examples:
            return Section("Examples", ("None were asked for, or no image could be scored.",))
        table = statistics.table
        groups: list[list[Figure]] = [[] for _ in examples]
        for image in self._stream([example.case for example in examples]):
            groups[image.key] = example_figures(self._panels, image, table, examples[image.key], options.alphas)
        if others:
            compared = comparison_figures(self._opened, others, table, examples, classes, options)
            for group, figure in zip(groups, compared, strict=True):
                group.append(figure)
        self.figures += [figure for group in groups for figure in group]
        reported = [figure for group in groups[:_REPORTED_EXAMPLES] for figure in group]
        text = (
            f"The classes in turn give their most certain image that is labelled so. {len(examples)} are in examples/,"
            f" the first {min(len(examples), _REPORTED_EXAMPLES)} here.",
        )
        return Section("Examples", text, figures=tuple(reported))

    def _stream(self, cases: Sequence[int]) -> Iterator[ScoredImage[int]]:
        subset = self._statistics.table.subset(cases)
        return stream_cases(self._opened, subset, batch_size=self._options.batch_size)

    def _tiles(self, c: MapClass, column: int, kind: str, cases: Sequence[int]) -> list[Tile]:
        """A tile per case, small already, so that a hundred of them need little memory."""
        statistics, tiles = self._statistics, []
        for rank, (case, image) in enumerate(zip(cases, self._stream(cases) if cases else (), strict=True), 1):
            predicted, labelled = bool(statistics.predicted[case, column]), bool(statistics.labelled[case, column])
            name = PurePosixPath(statistics.table.cases[case].key).name
            score = f"p = {statistics.probability[case, column]:.3f}"
            caption = f"{rank}. {kind}", score, verdict(predicted, labelled), name
            tile = self._panels.tile(image, c, caption, boxed=predicted)
            small = Image.fromarray(tile.image)
            small.thumbnail((_TILE, _TILE), Image.Resampling.BILINEAR)
            tiles.append(Tile(np.asarray(small), tile.caption))
        return tiles


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
