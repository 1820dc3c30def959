"""Figures for reports, as PNG. Lines differ by colour and by dash, so that no figure depends on colour alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from xrt.benchmarks.evaluation.measure.calibration import BINS, confidence, equal_mass, reliability
from xrt.benchmarks.evaluation.measure.confusion import Confusion
from xrt.benchmarks.evaluation.measure.evaluation_record import Evaluation
from xrt.benchmarks.evaluation.measure.predictions import Predictions
from xrt.benchmarks.evaluation.measure.subgroups import Subgroup
from xrt.benchmarks.report.plots import figure_png, grid_figure
from xrt.benchmarks.statistics import Estimate, ranking
from xrt.benchmarks.statistics.wilson import score_interval

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe & Ito (2008), told apart under every common colour blindness; yellow is left out, it fades on white."""
_DASHES = ("-", "--", ":")
_MARKERS = ("o", "s")
_GREY = "#6b7480"


def roc_png(predictions: Predictions, evaluation: Evaluation) -> bytes:
    """ROC curves of all classes with positive and negative cases, and their operating points."""
    figure, axes = _with_legend(len(predictions.names))
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (1, 3)))
    for j, c in enumerate(evaluation.classes):
        if c.figures.auroc.value is None:
            continue
        x, y, _ = roc_curve(predictions.truth[:, j], predictions.probability[:, j], drop_intermediate=True)
        axes.plot(x, y, label=f"{_short(c.name)}  {_interval(c.figures.auroc)}", **_style(j))
        if c.figures.specificity.value is not None and c.figures.sensitivity.value is not None:
            point = 1 - c.figures.specificity.value, c.figures.sensitivity.value
            axes.plot(*point, "o", color=_style(j)["color"], markersize=8, markeredgecolor="white", zorder=5)
    _unit_square(axes, "1 − specificity", "sensitivity")
    _legend(axes, "AUROC [95 % interval]")
    return _png(figure)


def pr_png(predictions: Predictions, evaluation: Evaluation) -> bytes:
    """Precision against recall of all classes with positive and negative cases; dashes at recall 1 are prevalences."""
    figure, axes = _with_legend(len(predictions.names))
    for j, c in enumerate(evaluation.classes):
        if c.figures.average_precision.value is None:
            continue
        precision, recall, _ = precision_recall_curve(predictions.truth[:, j], predictions.probability[:, j])
        label = f"{_short(c.name)}  {_interval(c.figures.average_precision)}"
        axes.plot(recall, precision, label=label, drawstyle="steps-post", **_style(j))
        prevalence = c.positives / (c.positives + c.negatives)
        axes.plot(1.0, prevalence, "_", color=_style(j)["color"], markersize=14, markeredgewidth=2, clip_on=False)
    _unit_square(axes, "recall (sensitivity)", "precision")
    _legend(axes, "average precision [95 % interval]")
    return _png(figure)


def models_png(predictions: Predictions, others: Sequence[Predictions]) -> bytes:
    """ROC curves of several models, one panel per class."""
    figure, panels = _panels(len(predictions.names), side=3.6)
    for name, axes in zip(predictions.names, panels, strict=True):
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (1, 3)))
        for m, each in enumerate((predictions, *others)):
            k = each.names.index(name)
            area = ranking(each.truth[:, k], each.probability[:, k])[0]
            if area is not None:
                x, y, _ = roc_curve(each.truth[:, k], each.probability[:, k])
                axes.plot(x, y, label=f"{_short(each.model.name, 26)}  {area:.3f}", **_style(m))
        _unit_square(axes, "1 − specificity", "sensitivity")
        axes.set_title(_short(name), fontsize=10)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="lower right", frameon=False, fontsize=7.5, title="AUROC", title_fontsize=7.5)
        else:
            axes.text(0.5, 0.5, "one kind of case:\nnot defined", ha="center", va="center", color=_GREY)
    return _png(figure)


def reliability_png(before: Predictions, after: Predictions | None) -> bytes:
    """Reliability diagrams in bins of equally many cases: one panel per class, or one of the highest class."""
    multiclass = before.task == "multiclass"
    names = ("highest class",) if multiclass else before.names
    figure, panels = _panels(len(names), side=3.3)
    for j, (name, axes) in enumerate(zip(names, panels, strict=True)):
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle=(0, (1, 3)))
        highest = []
        for m, (label, each) in enumerate((("as the model gives it", before), ("temperature fitted", after))):
            if each is None:
                continue
            positive, probability = confidence(each) if multiclass else (each.truth[:, j], each.probability[:, j])
            rows = reliability(positive, probability, equal_mass(probability, BINS))
            mean, fraction = np.array([row[0] for row in rows]), np.array([row[1] / row[2] for row in rows])
            spread = np.array([_wilson_error(row[1], row[2]) for row in rows]).T
            style = _style(m)
            highest += [float(mean.max()), float((fraction + spread[1]).max())]
            axes.errorbar(
                mean, fraction, yerr=spread, fmt=_MARKERS[m], markersize=4, linewidth=1, capsize=0,
                color=style["color"], linestyle=style["linestyle"], label=label,
            )  # fmt: skip
        # The points of a rare class lie near 0: show that corner.
        _unit_square(axes, "mean probability", "fraction of positives", min(1.01, 1.1 * max(highest)))
        axes.set_title(_short(name), fontsize=10)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    return _png(figure)


def confusion_png(matrices: Sequence[Confusion]) -> bytes:
    """Confusion matrices: counts, and the fraction of the row in blue, so that rare classes can be read."""
    size = len(matrices[0].labels)
    figure, panels = _panels(len(matrices), side=max(2.6, 1.6 + 0.62 * size))
    for matrix, axes in zip(matrices, panels, strict=True):
        counts = np.array(matrix.counts)
        fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1.15)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if fraction[row, column] > 0.6 else "#1c2530"
            text = f"{count}\n{100 * fraction[row, column]:.0f} %"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8.5 if size < 8 else 6.5)
        labels = ["\n".join(textwrap.wrap(_short(label), 13)) for label in matrix.labels]
        turned = {"rotation": 45, "ha": "right"} if size > 3 else {}
        axes.set_xticks(range(size), labels, fontsize=8, **turned)
        axes.set_yticks(range(size), labels, fontsize=8)
        axes.set(xlabel="decision", ylabel="truth")
        axes.set_title(_short(matrix.title), fontsize=10)
        axes.spines[:].set_visible(False)
    return _png(figure)


def subgroups_png(rows: Sequence[Subgroup]) -> bytes:
    """AUROC with its interval in every group, one panel per class; a hollow dot has no interval."""
    names = list(dict.fromkeys(row.name for row in rows))
    groups = list(dict.fromkeys((row.by, row.group) for row in rows))
    figure, panels = _panels(len(names), side=3.2, height=0.9 + 0.24 * len(groups), columns=3)
    lowest = [end for row in rows for end in (row.auroc.value, row.auroc.low) if end is not None]
    left = max(0.0, min([0.45, *(end - 0.02 for end in lowest)]))
    for name, axes in zip(names, panels, strict=True):
        auroc = {(row.by, row.group): row.auroc for row in rows if row.name == name}
        for y, group in enumerate(groups):
            estimate = auroc[group]
            if estimate.value is None:
                blank = {"facecolor": "white", "edgecolor": "none", "pad": 1}
                axes.text(left + 0.01, y, "not defined", fontsize=7, color=_GREY, va="center", bbox=blank)
                continue
            filling = "white"
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [y, y], color=_COLOURS[0], linewidth=1.6)
                filling = _COLOURS[0]
            axes.plot(estimate.value, y, "o", color=_COLOURS[0], markerfacecolor=filling, markersize=4.5)
        axes.axvline(0.5, color=_GREY, linewidth=1, linestyle=(0, (1, 3)))
        axes.set_yticks(range(len(groups)), [f"{by} {_short(group, 16)}" for by, group in groups], fontsize=7.5)
        axes.set(xlim=(left, 1.02), ylim=(len(groups) - 0.5, -0.5), xlabel="AUROC, 95 % interval")
        axes.set_title(_short(name), fontsize=10)
    return _png(figure)


def _with_legend(curves: int) -> tuple[Figure, Axes]:
    """A square plot with room for its legend on the right."""
    figure, axes = grid_figure(1, 1, (9.2, max(5.6, 0.24 * curves + 1.4)))
    return figure, axes[0, 0]


def _panels(count: int, *, side: float, height: float | None = None, columns: int = 4) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (max(side, 3.4) * columns if count == 1 else side * columns, (height or side) * rows)
    figure, grid = grid_figure(rows, columns, size)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, list(grid.flat[:count])


def _style(index: int) -> dict:
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "linewidth": 1.7,
    }


def _unit_square(axes: Axes, x: str, y: str, upper: float = 1.01) -> None:
    limits = (-0.01 * upper, upper)
    axes.set(xlabel=x, ylabel=y, xlim=limits, ylim=limits, aspect="equal")
    axes.grid(color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)


def _legend(axes: Axes, title: str) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, title=title, fontsize=8.5)
    else:
        axes.text(0.5, 0.5, "no class has both kinds of case: not defined", ha="center", va="center", color=_GREY)


def _interval(estimate: Estimate) -> str:
    if estimate.low is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _short(name: str, limit: int = 28) -> str:
    """A class name that fits, and in which matplotlib finds no mathematics."""
    plain = " ".join(name.split()).replace("$", r"\$")
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def _wilson_error(positives: int, images: int) -> tuple[float, float]:
    """How far the interval of a bin highestes below and above its fraction."""
    fraction = positives / images
    low, high = score_interval(fraction, images)
    return max(0.0, fraction - low), max(0.0, high - fraction)


def _png(figure: Figure) -> bytes:
    # A legend beside the axes may be wider than the room that was made for it.
    return figure_png(figure, facecolor="white", bbox_inches="tight", pad_inches=0.1)
