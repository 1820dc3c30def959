"""`explain`: heatmaps of a whole split, and the sheets that summarise them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xrt.benchmarks.evaluation.measure.selection import CasePart
from xrt.benchmarks.explanation.class_statistics import INDEX, ClassStatistics, gather_statistics
from xrt.benchmarks.explanation.classes import MapClasses
from xrt.benchmarks.explanation.examples_page import ExamplesPage
from xrt.benchmarks.explanation.map_statistics import mean_statistics
from xrt.benchmarks.explanation.options import ExplainOptions
from xrt.benchmarks.explanation.panels import Panels
from xrt.benchmarks.report import Cell, Report, Section, Table
from xrt.runtime._io import json_bytes, require_empty, require_writable, write_atomically
from xrt.runtime.bundle.manifest import IntendedUse
from xrt.runtime.bundle.reader import Bundle
from xrt.runtime.progress import SILENT, Progress
from xrt.runtime.scoring import Unscored, require_classes, stream_cases
from xrt.runtime.session import open_session


@dataclass(frozen=True)
class Explanation:
    """The figures of an explanation, what could not be scored, and the report."""

    figures: dict[str, Any]
    unscored: tuple[Unscored, ...]
    report: Report


def explain(
    bundle: Bundle,
    cases: CasePart,
    out: Path,
    options: ExplainOptions,
    *,
    compare: Sequence[Bundle] = (),
    progress: Progress = SILENT,
) -> Explanation:
    """Explain a bundle's decisions on all cases and write everything into the empty folder `out`.

    The examples are drawn as the bundles of `compare` explain them, too. Raises UsageError for an `out` with something
    in it and for classes without maps, DataError for a table that does not fit or too many unreadable images, and what
    opening a session raises.
    """
    require_writable(out, out)
    require_empty(out)
    panels = Panels(bundle.manifest, MapClasses.of(bundle.manifest, options.classes))
    for other in compare:  # now: the maps of a whole split must not be lost to a bundle that cannot be opened
        with open_session(other, backend=options.backend, precision=options.precision) as opened:
            require_classes(opened, cases.table)
    with open_session(bundle, backend=options.backend, precision=options.precision) as opened:
        require_classes(opened, cases.table)
        out.mkdir(parents=True, exist_ok=True)
        unscored: list[Unscored] = []
        images = stream_cases(
            opened,
            cases.table,
            batch_size=options.batch_size,
            allow_unscored=options.allow_unscored,
            unscored=unscored,
            progress=progress,
        )
        statistics = gather_statistics(panels, cases.table, images, out, options.heatmaps)
        page = ExamplesPage(opened, panels, statistics, options)
        sections = [
            _overview(panels, statistics, cases, unscored),
            page.mean_section(),
            page.cases_section(out),
            page.examples_section(compare),
        ]
    for figure in page.figures:
        write_atomically(out / figure.file, figure.png, sync=False)
    rows = sections[0].tables[0]
    figures = {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "variant": opened.variant.file,
        "backend": f"{opened.backend.name} {opened.backend.version()}",
        "dataset": cases.table.name,
        "part": cases.part,
        "images": len(statistics.table),
        "unscored": [{"image": u.key, "reason": u.reason} for u in unscored],
        "files": statistics.files,
        "classes": [dict(zip(rows.columns, row, strict=True)) for row in rows.rows],
        "maps": [dict(zip(t.columns, row, strict=True)) for t in sections[0].tables[1:] for row in t.rows],
    }
    write_atomically(out / "metrics.json", json_bytes(figures), sync=False)
    subtitle = (
        f"{bundle.manifest.name} ({opened.variant.file}) on {cases.table.name}, part {cases.part}, "
        f"{len(statistics.table)} images"
    )
    return Explanation(figures, tuple(unscored), Report("Explanations", subtitle, tuple(sections)))


def _overview(panels: Panels, statistics: ClassStatistics, cases: CasePart, unscored: Sequence[Unscored]) -> Section:
    """Counts of every class, and figures of the maps of its findings in every layer."""
    counts: list[tuple[Cell, ...]] = []
    figures: list[tuple[Cell, ...]] = []
    for j, c in enumerate(panels.classes.every):
        predicted, labelled = statistics.predicted[:, j], statistics.labelled[:, j]
        correct, empty = int((predicted & labelled).sum()), statistics.without_map[c.name]
        counts.append((c.name, int(labelled.sum()), int(predicted.sum()), correct, empty))
        for output in panels.outputs:
            s = mean_statistics(statistics.of_maps[output][j])
            values = (None,) * 4 if s is None else (s.mean, s.maximum, s.zero_share, s.entropy)
            figures.append((c.name, panels.describe(output), len(statistics.of_maps[output][j]), *values))
    text = [
        IntendedUse().notice,
        *cases.table.notes,
        f"Maps of {', '.join(panels.classes.names)}; {len(statistics.table)} images of part {cases.part},"
        f" {statistics.files} heatmaps (files and boxes: {INDEX}). Drawn on the whole stored image, where the model's"
        " input lay in it; every map is scaled to its own maximum, so colours do not compare between maps.",
    ]
    if unscored:
        text.append(f"{len(unscored)} of {len(cases.table)} images could not be scored: {_reasons(unscored)}.")
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


def _reasons(unscored: Sequence[Unscored], most: int = 5) -> str:
    reasons = "; ".join(f"{u.key} ({u.reason})" for u in unscored[:most])
    return reasons + (f"; and {len(unscored) - most} more" if len(unscored) > most else "")
