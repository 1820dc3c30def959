"""What `xrt faithfulness` writes: tables, curves and the sections of a report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from xrt.benchmarks.faithfulness.figures import stacked
from xrt.benchmarks.faithfulness.measure import FaithfulnessResult
from xrt.benchmarks.faithfulness.plots import plot_curves, plot_groups
from xrt.benchmarks.report import Cell, Figure, Report, Section, Table
from xrt.benchmarks.statistics import Estimate
from xrt.runtime._io import json_bytes
from xrt.runtime.bundle.manifest import IntendedUse

_TITLES = {"noise": "Gaussian noise of σ = {:g} of the grey range, added", "blur": "a Gaussian blur of half a cell"}
_TITLES |= {"uniform": "uniformly random grey", "mean": "the image's mean grey"}


def write_faithfulness(out: Path, result: FaithfulnessResult) -> Report:
    """Write metrics.json, faithfulness.csv, localisation.csv, curves.csv and figures into `out`; the report's parts."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "metrics.json").write_bytes(json_bytes(result.as_dict()))
    _write_rows(out / "faithfulness.csv", result.faithfulness)
    # Nothing of an earlier run in the same folder may stay: it would seem to belong to this one.
    (out / "localisation.csv").unlink(missing_ok=True)
    if result.localisation:
        _write_rows(out / "localisation.csv", result.localisation)
    _write_curves(out / "curves.csv", result)
    sections = [*_faithfulness(result), *(_localisation(result) if result.localisation else ())]
    for section in sections:
        for figure in section.figures:
            (out / figure.file).write_bytes(figure.png)
    origin = result.provenance
    subtitle = (
        f"{origin['bundle']} ({origin['variant']}) on {origin['dataset']}, part {origin['part']}, "
        f"{result.images} images"
    )
    return Report("Faithfulness of heatmaps", subtitle, tuple(sections))


def _faithfulness(result: FaithfulnessResult) -> tuple[Section, Section]:
    options = result.options
    left_out = "; ".join(f"{count} left out: {reason}" for reason, count in result.left_out.items())
    changed = _TITLES[options.perturbation].format(options.sigma)
    text = (
        IntendedUse().notice,
        *result.provenance["notes"],
        f"{len(result.curves)} predicted findings of {result.images} images"
        f"{', labelled so' if options.correct_only else ''}{f' ({left_out})' if left_out else ''}. The"
        f" {result.grid[0]} × {result.grid[1]} cells of {result.provenance['cams']} are replaced in"
        f" {len(result.counts) - 1} steps, the hottest first in MoRF (the coolest in LeRF), by {changed}. AOPC is the"
        " mean drop of the probability, or of the logit, over the steps (Samek et al. 2017). Deletion replaces cells"
        " by the image's mean grey, insertion puts them back into the blurred image; AUC is the area under the"
        " probability (Petsiuk et al. 2018).",
        f"The heatmap's order is compared with {options.random_orders} random orders per image, with the same noise."
        " Intervals are 95 %, by bootstrap over images; differences are paired.",
        *((f"Note: {result.nothing}.",) if result.nothing else ()),
    )
    columns = ("group", "measure", "better", "findings", "heatmap", "random", "difference")
    rows = [
        (row.kind, (row.name, row.measure, row.better, row.count, *_cells(row.map, row.random, row.difference)))
        for row in result.faithfulness
    ]
    main = next(row.measure for row in result.faithfulness if row.kind == "all")
    groups = [row for row in result.faithfulness if row.measure == main and row.kind != "class and contrast"]
    series = [(f"{r.name} ({r.count})", (("heatmap's order", r.map), ("random orders", r.random))) for r in groups]
    note = "With 95 % intervals; in brackets the number of findings."
    figures = (
        Figure("Curves against steps", "curves.png", plot_curves(result), "Bands: 95 % intervals over images."),
        Figure(f"{main}, by group", "aopc.png", plot_groups(series, f"{main} (higher is better)"), note),
    )
    return (
        Section("Faithfulness", text, _tables(columns, rows, _WHOLE), figures),
        Section("Faithfulness by group", (), _tables(columns, rows, _GROUPED)),
    )


_WHOLE = {"All findings": ("all",)}
_GROUPED = {
    "By class": ("class",),
    "By area and contrast": ("area", "contrast"),
    "By class and contrast": ("class and contrast",),
}


def _tables(
    columns: tuple[str, ...],
    rows: Sequence[tuple[str, tuple[Cell, ...]]],
    titles: dict[str, tuple[str, ...]],
) -> tuple[Table, ...]:
    """A table for every title that has rows; each row comes with its kind, which decides where it belongs."""
    grouped = {title: tuple(row for kind, row in rows if kind in kinds) for title, kinds in titles.items()}
    return tuple(Table(title, columns, cells) for title, cells in grouped.items() if cells)


def _localisation(result: FaithfulnessResult) -> tuple[Section, Section]:
    text = (
        "Predicted findings with a reader's box. Pointing: the map's maximum lies in a box (Zhang et al. 2018)."
        " IoU: intersection over union of the boxes with the one that screening draws, around the map's maximum above"
        " Otsu's threshold. Chance is a map that is the same everywhere: both figures are then the fraction of the"
        " image that the boxes cover. Shuffled maps are those of all other images of the class.",
        f"{result.missed} boxed lesions are not predicted, and so not counted.",
    )
    columns = (
        "group",
        "findings",
        "chance",
        "pointing",
        "shuffled",
        "difference",
        "IoU",
        "IoU shuffled",
        "IoU difference",
    )
    rows = [
        (row.kind, (row.name, row.count, *_cells(*(getattr(row, f.name) for f in fields(row)[3:]))))
        for row in result.localisation
    ]
    series = [
        (f"{r.name} ({r.count})", (("heatmaps", r.hits), ("shuffled heatmaps", r.hits_shuffled), ("chance", r.chance)))
        for r in result.localisation
        if r.kind != "class and contrast"
    ]
    note = "With 95 % intervals; in brackets the number of findings."
    figure = Figure(
        "Pointing game, by group",
        "pointing.png",
        plot_groups(series, "maximum in the reader's box (fraction)"),
        note,
    )
    return (
        Section("Localisation", text, _tables(columns, rows, _WHOLE), (figure,)),
        Section("Localisation by group", (), _tables(columns, rows, _GROUPED)),
    )


def _cells(*estimates: Estimate) -> tuple[Cell, ...]:
    return tuple(None if e.value is None else e.text.replace(", ", ",\u00a0") for e in estimates)


def _write_rows(path: Path, rows: Sequence[object]) -> None:
    """A column for every field of the rows, three for every estimate."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, row in enumerate(rows):
            record = {}
            for field in fields(row):  # type: ignore[arg-type]
                value = getattr(row, field.name)
                if isinstance(value, Estimate):
                    record |= {
                        field.name: value.value,
                        f"{field.name}_low": value.low,
                        f"{field.name}_high": value.high,
                    }
                else:
                    record[field.name] = value
            if number == 0:
                writer.writerow(record)
            writer.writerow(record.values())


def _write_curves(path: Path, result: FaithfulnessResult) -> None:
    """Mean curves over all findings: one row per point, none without a finding."""
    curves = stacked(result.curves, len(result.paths), len(result.counts))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "order", "cells", "probability", "logit"))
        if not result.curves:
            return
        probability, logit = (kind.mean(axis=0) for kind in curves)
        for i, name in enumerate(result.paths):
            for j, order in enumerate(("heatmap", "random")):
                for point, count in enumerate(result.counts):
                    writer.writerow((name, order, count, probability[i, j, point], logit[i, j, point]))
