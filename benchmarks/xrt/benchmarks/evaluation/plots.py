"""Figures for reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score, roc_curve


def plot_roc(
    path: Path, names: Sequence[str], truth: Bool[np.ndarray, "n k"], probability: Float[np.ndarray, "n k"]
) -> None:
    """ROC curves of all classes that have both kinds of case, with their AUROC in the legend."""
    figure, axes = plt.subplots(figsize=(6.4, 6), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1, label="chance")
    for name, labels, scores in zip(names, truth.T, probability.T, strict=True):
        if labels.any() and not labels.all():
            false_positive, true_positive, _ = roc_curve(labels, scores)
            axes.plot(false_positive, true_positive, label=f"{name} {roc_auc_score(labels, scores):.3f}")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.legend(loc="lower right", frameon=False, title="AUROC")
    figure.savefig(path, dpi=130)
    plt.close(figure)
