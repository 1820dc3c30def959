"""The files beside a checkpoint: `metrics.json`, `metrics.csv` (one row an epoch) and `curves.png`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xrt.train.callbacks import Row


def write_reports(directory: Path, metrics: dict[str, Any], history: list[Row]) -> None:
    """Write all three into `directory`."""
    (directory / "metrics.json").write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with (directory / "metrics.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]))
        writer.writeheader()
        writer.writerows(history)
    curves(history, int(metrics["best_epoch"])).savefig(directory / "curves.png", dpi=100)


def curves(history: list[Row], best_epoch: int) -> Figure:
    """Loss, validation AUROC and learning rate over the epochs; a line marks the epoch that was kept."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    # A canvas of its own: pyplot would choose a back end for the whole process.
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    panels = (
        ("loss", {"train_loss": "training (augmented)", "val_loss": "validation"}),
        ("AUROC", {"val_auroc": "validation, mean over classes"}),
        ("learning rate", {"lr": "at the end of the epoch"}),
    )
    for axes, (title, lines) in zip(figure.subplots(1, 3), panels, strict=True):
        for key, label in lines.items():
            values = [float("nan") if row[key] is None else row[key] for row in history]
            axes.plot(epochs, values, marker="o", markersize=3, label=label)
        axes.axvline(best_epoch, color="0.6", linestyle=":", label=f"kept: epoch {best_epoch}")
        axes.set(title=title, xlabel="epoch")
        axes.legend(fontsize=8)
    return figure
