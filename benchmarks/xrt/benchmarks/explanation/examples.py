"""Sheets about single images: every class, several findings in one, opacities, layers, and other bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from xrt.benchmarks.explanation.class_statistics import file_stem
from xrt.benchmarks.explanation.classes import MapClasses
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.panels import OWN_SCALE, Panels
from xrt.benchmarks.explanation.selection import Example
from xrt.benchmarks.explanation.tiles import Sheet, Tile, rows_of
from xrt.benchmarks.report import Figure
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.datasets import CaseTable
from xrt.runtime.scoring import ScoredImage, stream_cases
from xrt.runtime.session import OpenedSession, open_session

FOLDER = "examples"
_COLUMNS = 6


def example_figures(
    panels: Panels, image: ScoredImage[int], table: CaseTable, example: Example, alphas: Sequence[float]
) -> list[Figure]:
    """Sheets of one image: all classes; predicted classes in one; one class by opacity and, if several, by layer.

    The example counts the cases of `table` and the classes of `panels`.
    """
    case = example.case
    key = table.cases[case].key
    c = panels.classes.every[example.column]
    labelled = panels.classes.labelled(table.subset([case]))[0]
    name = PurePosixPath(key).name
    stem = f"{FOLDER}/{file_stem(case, key)}"
    of_class = f"{c.name}, p = {c.probability(image.probability):.3f}"
    grid = Sheet(f"{name}: every class", rows_of(panels.grid(image, name, labelled), _COLUMNS), bar=OWN_SCALE)
    tile, hues = panels.composite(image)
    both = [Tile(image.loaded.preview, (name,)), tile]
    composite = Sheet(f"{name}: all findings in one", [both], side=384, key=hues)
    opacities = Sheet(f"{name}: {of_class}", [panels.opacities(image, c, alphas)], bar=OWN_SCALE)
    figures = [
        Figure(f"Every class, {name}", f"{stem}-grid.png", grid.png()),
        Figure(f"Predicted classes together, {name}", f"{stem}-composite.png", composite.png()),
        Figure(f"Opacities α, {name}", f"{stem}-opacities.png", opacities.png()),
    ]
    if len(panels.outputs) > 1:
        note = "Mean and maximum do not compare between layers; the fraction of zero cells and the entropy do."
        layers = Sheet(f"{name}: {of_class}", rows_of(panels.layers(image, c), _COLUMNS), note, bar=OWN_SCALE)
        figures.append(Figure(f"Layers, {name}", f"{stem}-layers.png", layers.png()))
    return figures


def comparison_figures(
    opened: OpenedSession,
    others: Sequence[Bundle],
    table: CaseTable,
    examples: Sequence[Example],
    classes: MapClasses,
    options: ExplainOptions,
) -> list[Figure]:
    """The examples as several bundles explain them: the opened one first, then each of `others`.

    `classes` are those that the examples count. Raises what opening the other bundles raises, and DataError where one
    has other classes.
    """
    rows: list[list[Tile]] = [[] for _ in examples]
    names = [classes.names[example.column] for example in examples]
    subset = table.subset([example.case for example in examples])

    def add_tiles(session: OpenedSession) -> None:
        panels = Panels(session.manifest, MapClasses.of(session.manifest))
        for image in stream_cases(session, subset, batch_size=options.batch_size):
            row = rows[image.key]
            if not row:
                row.append(Tile(image.loaded.preview, ("radiograph",)))
            row.append(_explained_by(panels, image, names[image.key], session.bundle.path.name))

    add_tiles(opened)
    for bundle in others:
        with open_session(bundle, backend=options.backend, precision=options.precision) as session:
            add_tiles(session)
    figures = []
    for example, name, row in zip(examples, names, rows, strict=True):
        key = table.cases[example.case].key
        sheet = Sheet(f"{PurePosixPath(key).name}: {name}", rows_of(row, _COLUMNS), bar=OWN_SCALE)
        file = f"{FOLDER}/{file_stem(example.case, key)}-bundles.png"
        figures.append(Figure(f"Bundles side by side, {PurePosixPath(key).name}", file, sheet.png()))
    return figures


def _explained_by(panels: Panels, image: ScoredImage[int], name: str, bundle: str) -> Tile:
    """A tile of the class of this name, or the bare radiograph where the bundle has no map of it."""
    if name not in panels.classes.names:
        return Tile(image.loaded.preview, (bundle, f"explains {', '.join(panels.classes.names)} alone"))
    column = panels.classes.names.index(name)
    c = panels.classes.every[column]
    decision = "predicted" if panels.classes.predicted(image.probability[None])[0, column] else "not predicted"
    return panels.tile(image, c, (bundle, f"p = {c.probability(image.probability):.3f}, {decision}"))
