"""Plots: the model's probability against the fraction of cells that is replaced, and figures by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xrt.benchmarks.faithfulness.figures import stacked
from xrt.benchmarks.faithfulness.measure import FaithfulnessResult
from xrt.benchmarks.report.plots import figure_png, grid_figure
from xrt.benchmarks.statistics import Estimate, mean_estimates

_STYLES = (
    ("the heatmap's order", {"color": "#0072B2", "linestyle": "-", "linewidth": 2}),
    ("random orders", {"color": "#D55E00", "linestyle": "--", "linewidth": 1.5}),
)  # distinguished by dashes as well as by colour

_MARKS = (("#0072B2", "o"), ("#D55E00", "D"), ("0.45", "x"))


def plot_curves(result: FaithfulnessResult) -> bytes:
    """PNG: mean probability of the explained class along every walk, with 95 % intervals over images."""
    images = np.array([f.case for f in result.curves], dtype=np.int64)
    probability, _ = stacked(result.curves, len(result.paths), len(result.counts))
    fraction = 100 * result.counts / result.counts[-1]
    figure, axes = grid_figure(1, len(result.paths), (3.7 * len(result.paths), 4), share_y=True)
    for i, (path, panel) in enumerate(zip(result.paths, axes[0], strict=True)):
        for order, (name, style) in enumerate(_STYLES):
            means = mean_estimates(probability[:, i, order], images, seed=result.options.seed)
            if not len(images):
                continue
            panel.plot(fraction, [m.value for m in means], label=name, **style)
            if any(m.low is not None for m in means):
                low = [m.value if m.low is None else m.low for m in means]
                high = [m.value if m.high is None else m.high for m in means]
                panel.fill_between(fraction, low, high, color=style["color"], alpha=0.2, linewidth=0)
        panel.set_title(f"{path}\n{_caption(result, path)}", fontsize=10)
        panel.set_xlabel("cells inserted (%)" if path == "insertion" else "cells replaced (%)")
        panel.set(xlim=(0, 100), ylim=(0, 1))
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("probability of the explained class")
    if len(images):
        axes[0][0].legend(frameon=False, loc="best", fontsize=9)
    return figure_png(figure)


def _caption(result: FaithfulnessResult, path: str) -> str:
    row = next(row for row in result.faithfulness if row.kind == "all" and row.measure.endswith(f"{path}, probability"))
    if row.map.value is None or row.random.value is None:
        return "no finding: not defined"
    return f"{row.measure.split()[0]} {row.map.value:.3f}, random {row.random.value:.3f} ({row.better} is better)"


def plot_groups(groups: Sequence[tuple[str, Sequence[tuple[str, Estimate]]]], label: str) -> bytes:
    """PNG: for every named group the same series of means, with 95 % intervals, the heatmaps' own first."""
    figure, grid = grid_figure(1, 1, (7, 1.4 + 0.42 * len(groups)))
    axes = grid[0, 0]
    for row, (_, series) in enumerate(reversed(groups)):
        for j, (name, estimate) in enumerate(series):
            if estimate.value is None:
                continue
            colour, marker = _MARKS[j]
            place = row - 0.2 * (j - (len(series) - 1) / 2)
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=2)
            label_once = name if name not in axes.get_legend_handles_labels()[1] else None
            axes.plot(estimate.value, place, marker, color=colour, label=label_once, markersize=6)
    axes.set_yticks(range(len(groups)), [name for name, _ in reversed(groups)], fontsize=9)
    axes.set_xlabel(label)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=len(_MARKS), frameon=False)
    return figure_png(figure)
