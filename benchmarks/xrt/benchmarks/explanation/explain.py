"""`explain`: heatmaps of a whole split, and the sheets that make sense of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrt.benchmarks.explanation.classes import MapClasses
from xrt.benchmarks.explanation.gallery import Gallery
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.panels import Panels
from xrt.benchmarks.explanation.statistics import mean_statistics
from xrt.benchmarks.explanation.survey import INDEX, Survey, replace_file, survey
from xrt.benchmarks.report import Cell, Report, Section, Table
from xrt.benchmarks.scoring import Progress, Unscored, require_fit, stream
from xrt.runtime.bundle.manifest import IntendedUse
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.cases import CaseTable
from xrt.runtime.errors import UsageError
from xrt.runtime.files import require_writable
from xrt.runtime.opening import open_session


@dataclass(frozen=True)
class Explanation:
    """What was explained, and the report about it."""

    figures: dict[str, Any]
    unscored: tuple[Unscored, ...]
    report: Report


def explain(
    bundle: Bundle,
    table: CaseTable,
    part: str,
    out: Path,
    options: ExplainOptions,
    *,
    also: Sequence[Bundle] = (),
    progress: Progress = lambda done, total: None,
) -> Explanation:
    """Explain a bundle's decisions on all cases of `table` and write everything into the empty folder `out`.

    Raises UsageError for an `out` with something in it and for classes without maps, DataError for a table that does
    not fit or too many unreadable images, and what opening a session raises.
    """
    require_writable(out, out)
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: choose another --out, or remove it")
    panels = Panels(bundle.manifest, MapClasses.of(bundle.manifest, options.classes))
    for other in (bundle, *also):
        require_fit(other, table)
    for other in also:  # now: the maps of a whole split must not be lost to a bundle that cannot be opened
        open_session(other, backend=options.backend, precision=options.precision).session.close()
    opened = open_session(bundle, backend=options.backend, precision=options.precision)
    out.mkdir(parents=True, exist_ok=True)
    with opened.session:
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
        found = survey(panels, table, images, unscored, out, options.heatmaps)
        gallery = Gallery(bundle, opened, panels, found, options)
        sections = [
            _overview(panels, found, table, part),
            gallery.mean_section(),
            gallery.cases_section(out),
            gallery.examples_section(also),
        ]
    for figure in gallery.figures:
        replace_file(out / figure.file, figure.png)
    rows = sections[0].tables[0]
    figures = {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "variant": opened.variant.file,
        "backend": f"{opened.backend.name} {opened.backend.version()}",
        "dataset": table.name,
        "part": part,
        "images": len(found.table),
        "unscored": [{"image": u.key, "reason": u.reason} for u in unscored],
        "files": found.files,
        "classes": [dict(zip(rows.columns, row, strict=True)) for row in rows.rows],
        "maps": [dict(zip(t.columns, row, strict=True)) for t in sections[0].tables[1:] for row in t.rows],
    }
    replace_file(out / "metrics.json", (json.dumps(figures, indent=2) + "\n").encode())
    subtitle = f"{bundle.manifest.name} ({opened.variant.file}) on {table.name}, part {part}, {len(found.table)} images"
    return Explanation(figures, tuple(unscored), Report("Explanations", subtitle, tuple(sections)))


def _overview(panels: Panels, found: Survey, table: CaseTable, part: str) -> Section:
    """Counts a class, and what the maps of its findings are like in every layer."""
    counts: list[tuple[Cell, ...]] = []
    figures: list[tuple[Cell, ...]] = []
    for j, c in enumerate(panels.classes.every):
        predicted, labelled = found.predicted[:, j], found.labelled[:, j]
        correct, empty = int((predicted & labelled).sum()), found.without_map[c.name]
        counts.append((c.name, int(labelled.sum()), int(predicted.sum()), correct, empty))
        for output in panels.outputs:
            s = mean_statistics(found.statistics[output][j])
            values = (None,) * 4 if s is None else (s.mean, s.maximum, s.zero_share, s.entropy)
            figures.append((c.name, panels.describe(output), len(found.statistics[output][j]), *values))
    text = [
        IntendedUse().notice,
        *table.notes,
        f"Maps of {', '.join(panels.classes.names)}; {len(found.table)} images of part {part}, {found.files} heatmaps"
        f" (files and boxes: {INDEX}). Drawn on the whole stored image, where the model's input lay in it; every map is"
        " scaled to its own maximum, so colours do not compare between maps.",
    ]
    if found.unscored:
        text.append(f"{len(found.unscored)} of {len(table)} images could not be scored: {_listed(found.unscored)}.")
    return Section(
        "Heatmaps",
        tuple(text),
        tables=(
            Table("Findings", ("class", "labelled", "predicted", "of these labelled", "without a map"), tuple(counts)),
            Table(
                "What the maps are like",
                ("class", "layer", "maps", "mean", "maximum", "share of zero", "entropy"),
                tuple(figures),
                "Means over predicted findings, of the CAM (no bundle puts out the activations themselves). Mean and"
                " maximum are in the maps' own units and do not compare between layers. The entropy is over its largest"
                " possible value: 0 is one hot cell, 1 the same everywhere.",
            ),
        ),
    )


def _listed(unscored: Sequence[Unscored], most: int = 5) -> str:
    shown = "; ".join(f"{u.key} ({u.reason})" for u in unscored[:most])
    return shown + (f"; and {len(unscored) - most} more" if len(unscored) > most else "")
