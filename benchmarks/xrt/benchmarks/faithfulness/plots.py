"""Curves of what the model still sees, against how much was replaced."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from xrt.benchmarks.faithfulness.figures import stacked
from xrt.benchmarks.faithfulness.measure import FaithfulnessResult
from xrt.benchmarks.localisation.intervals import Interval, mean_intervals

_STYLES = (
    ("the heatmap's order", {"color": "#0072B2", "linestyle": "-", "linewidth": 2}),
    ("random orders", {"color": "#D55E00", "linestyle": "--", "linewidth": 1.5}),
)  # told apart by dashes as well as by colour

_MARKS = (("#0072B2", "o"), ("#D55E00", "D"), ("0.45", "x"))


def plot_curves(result: FaithfulnessResult) -> bytes:
    """PNG: mean probability of the explained class along every walk, with 95 % intervals over images."""
    images = np.array([f.case for f in result.curves], dtype=np.int64)
    probability, _ = stacked(result.curves, len(result.paths), len(result.counts))
    share = 100 * result.counts / result.counts[-1]
    width = 3.7 * len(result.paths)
    figure, axes = plt.subplots(
        1, len(result.paths), figsize=(width, 4), sharey=True, layout="constrained", squeeze=False
    )
    for i, (path, panel) in enumerate(zip(result.paths, axes[0], strict=True)):
        for order, (name, style) in enumerate(_STYLES):
            means = mean_intervals(probability[:, i, order], images, seed=result.options.seed)
            if not len(images):
                continue
            panel.plot(share, [m.point for m in means], label=name, **style)
            if any(m.low is not None for m in means):
                low = [m.point if m.low is None else m.low for m in means]
                high = [m.point if m.high is None else m.high for m in means]
                panel.fill_between(share, low, high, color=style["color"], alpha=0.2, linewidth=0)
        panel.set_title(f"{path}\n{_caption(result, path)}", fontsize=10)
        panel.set_xlabel("cells inserted (%)" if path == "insertion" else "cells replaced (%)")
        panel.set(xlim=(0, 100), ylim=(0, 1))
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("probability of the explained class")
    if len(images):
        axes[0][0].legend(frameon=False, loc="best", fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    plt.close(figure)
    return buffer.getvalue()


def _caption(result: FaithfulnessResult, path: str) -> str:
    row = next(row for row in result.faithfulness if row.kind == "all" and row.measure.endswith(f"{path}, probability"))
    if row.map.point is None or row.random.point is None:
        return "no finding: not defined"
    return f"{row.measure.split()[0]} {row.map.point:.3f}, random {row.random.point:.3f} ({row.better} is better)"


def plot_groups(groups: Sequence[tuple[str, Sequence[tuple[str, Interval]]]], label: str) -> bytes:
    """PNG: for every named group the same series of means, with 95 % intervals, the heatmaps' own first."""
    figure, axes = plt.subplots(figsize=(7, 1.4 + 0.42 * len(groups)), layout="constrained")
    for row, (_, series) in enumerate(reversed(groups)):
        for j, (name, interval) in enumerate(series):
            if interval.point is None:
                continue
            colour, marker = _MARKS[j]
            place = row - 0.2 * (j - (len(series) - 1) / 2)
            if interval.low is not None and interval.high is not None:
                axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2)
            drawn = name if name not in axes.get_legend_handles_labels()[1] else None
            axes.plot(interval.point, place, marker, color=colour, label=drawn, markersize=6)
    axes.set_yticks(range(len(groups)), [name for name, _ in reversed(groups)], fontsize=9)
    axes.set_xlabel(label)
    axes.set_ylim(-0.6, len(groups) - 0.4)
    axes.grid(axis="x", alpha=0.3)
    if axes.lines:
        figure.legend(loc="outside upper center", ncols=len(_MARKS), frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, format="png")
    plt.close(figure)
    return buffer.getvalue()
