"""The files beside a checkpoint: `metrics.json` and `curves.png`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xrt.runtime._io import json_bytes
from xrt.train.training.callbacks import Row

FILES = ("metrics.json", "curves.png")


def write_reports(directory: Path, metrics: dict[str, Any], history: list[Row]) -> None:
    """Write both into `directory`."""
    (directory / FILES[0]).write_bytes(json_bytes(metrics, allow_nan=False))
    curves(history, int(metrics["best_epoch"])).savefig(directory / FILES[1], dpi=100)


def curves(history: list[Row], best_epoch: int) -> Figure:
    """Loss, accuracy, other validation figures and learning rate over the epochs; a line marks the epoch kept."""
    figure = Figure(figsize=(15, 4), layout="constrained")
    # A canvas of its own: pyplot would choose a back end for the whole process.
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    panels = (
        ("loss", {"train_loss": "training (augmented)", "val_loss": "validation"}),
        ("accuracy", {"train_accuracy": "training (augmented)", "val_accuracy": "validation"}),
        ("validation", {"val_auroc": "AUROC, mean", "val_recall": "recall, mean", "val_f1": "F1, mean"}),
        ("learning rate", {"lr": "at the end of the epoch"}),
    )
    for axes, (title, lines) in zip(figure.subplots(1, 4), panels, strict=True):
        for (key, label), style in zip(lines.items(), ("-", "--", ":"), strict=False):
            values = [float("nan") if row[key] is None else row[key] for row in history]
            axes.plot(epochs, values, style, marker="o", markersize=3, label=label)
        axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        # Below the axes: inside, it would hide some epochs of some runs.
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False)
    return figure
