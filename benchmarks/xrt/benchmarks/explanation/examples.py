"""Sheets about single images: every class, several findings in one, opacities, layers, and other bundles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from xrt.benchmarks.explanation.classes import MapClasses
from xrt.benchmarks.explanation.panels import OWN_SCALE, Panels
from xrt.benchmarks.explanation.survey import file_stem
from xrt.benchmarks.explanation.tiles import Sheet, Tile, rows_of
from xrt.benchmarks.report import Figure
from xrt.benchmarks.scoring import ScoredImage, stream
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.opening import OpenedSession, open_session

FOLDER = "examples"
_COLUMNS = 6


def example_figures(
    panels: Panels, image: ScoredImage, table: CaseTable, case: int, chosen: int, alphas: Sequence[float]
) -> list[Figure]:
    """Sheets of one image: all classes; predicted classes in one; class `chosen` by opacity and, if several, by layer.

    `case` counts the cases of `table`, `chosen` the classes of `panels`.
    """
    key = table.cases[case].key
    shown = panels.classes.every[chosen]
    labelled = panels.classes.labelled(table.subset([case]))[0]
    name = PurePosixPath(key).name
    stem = f"{FOLDER}/{file_stem(case, key)}"
    of_class = f"{shown.name}, p = {shown.probability(image.probability):.3f}"
    grid = Sheet(f"{name}: every class", rows_of(panels.grid(image, name, labelled), _COLUMNS), bar=OWN_SCALE)
    tile, hues = panels.composite(image)
    both = [Tile(image.preview, (name,)), tile]
    composite = Sheet(f"{name}: all findings in one", [both], side=384, key=hues)
    opacities = Sheet(f"{name}: {of_class}", [panels.opacities(image, shown, alphas)], bar=OWN_SCALE)
    figures = [
        Figure(f"Every class, {name}", f"{stem}-grid.png", grid.png()),
        Figure(f"Predicted classes together, {name}", f"{stem}-composite.png", composite.png()),
        Figure(f"Opacities α, {name}", f"{stem}-opacities.png", opacities.png()),
    ]
    if len(panels.outputs) > 1:
        note = "Mean and maximum do not compare between layers; the share of zero cells and the entropy do."
        layers = Sheet(f"{name}: {of_class}", rows_of(panels.layers(image, shown), _COLUMNS), note, bar=OWN_SCALE)
        figures.append(Figure(f"Layers, {name}", f"{stem}-layers.png", layers.png()))
    return figures


def comparison_figures(
    first: tuple[Bundle, OpenedSession],
    others: Sequence[Bundle],
    table: CaseTable,
    chosen: Sequence[tuple[int, str]],
    *,
    backend: str,
    precision: str,
    batch_size: int,
) -> list[Figure]:
    """The (case, class name) pairs `chosen` as several bundles explain them, one after the other.

    Raises what opening the other bundles raises, and DataError where one has other classes.
    """
    rows: list[list[Tile]] = [[] for _ in chosen]
    subset = table.subset([case for case, _ in chosen])
    for position, bundle in enumerate([first[0], *others]):
        opened = first[1] if position == 0 else open_session(bundle, backend=backend, precision=precision)
        panels = Panels(bundle.manifest, MapClasses.of(bundle.manifest))
        try:
            for image in stream(bundle, opened, subset, batch_size=batch_size):
                row = rows[image.index]
                if not row:
                    row.append(Tile(image.preview, ("radiograph",)))
                row.append(_explained_by(panels, image, chosen[image.index][1], bundle.path.name))
        finally:
            if position > 0:
                opened.session.close()
    figures = []
    for (case, name), row in zip(chosen, rows, strict=True):
        key = table.cases[case].key
        sheet = Sheet(f"{PurePosixPath(key).name}: {name}", rows_of(row, _COLUMNS), bar=OWN_SCALE)
        file = f"{FOLDER}/{file_stem(case, key)}-bundles.png"
        figures.append(Figure(f"Bundles side by side, {PurePosixPath(key).name}", file, sheet.png()))
    return figures


def _explained_by(panels: Panels, image: ScoredImage, name: str, bundle: str) -> Tile:
    """A tile of the class of this name, or the bare radiograph where the bundle has no map of it."""
    if name not in panels.classes.names:
        return Tile(image.preview, (bundle, f"explains {', '.join(panels.classes.names)} alone"))
    shown = panels.classes.every[panels.classes.names.index(name)]
    found = panels.classes.predicted(image.probability[None])[0][panels.classes.names.index(name)]
    decision = "predicted" if np.all(found) else "not predicted"
    return panels.tile(image, shown, (bundle, f"p = {shown.probability(image.probability):.3f}, {decision}"))
