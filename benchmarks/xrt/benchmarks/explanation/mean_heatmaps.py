"""Where a class's heatmaps lie on average, in the frame of the model's input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8
from matplotlib.colors import ListedColormap
from PIL import Image

from xrt.benchmarks.report.plots import figure_png, grid_figure
from xrt.runtime.heatmaps.overlay import MAX_OPACITY, PALETTE

HEAT = ListedColormap(PALETTE / 255, "heat")
_COLUMNS = 5


class MeanHeatmap:
    """The mean over findings of one class of their maps, each divided by its own maximum, and of their images.

    Divided, so that every finding counts the same: the raw maps of confident findings are many times higher. Empty
    maps cannot be divided and are not added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._heat: np.ndarray | float = 0.0
        self._image: np.ndarray | float = 0.0

    def add(self, cam: Float32[np.ndarray, "h w"], image: UInt8[np.ndarray, "height width"]) -> None:
        """Count a finding in. Raises ValueError for an empty map."""
        peak = float(cam.max())
        if not peak > 0:
            raise ValueError("an empty map has no maximum to be divided by")
        self.count += 1
        self._heat = self._heat + cam.astype(np.float64) / peak
        self._image = self._image + image.astype(np.float64)

    @property
    def heat(self) -> Float[np.ndarray, "h w"]:
        """The mean map, in 0..1. Raises ValueError when nothing was added."""
        return self._mean(self._heat)

    @property
    def image(self) -> Float[np.ndarray, "height width"]:
        """The mean of the images, in grey levels 0..255. Raises ValueError when nothing was added."""
        return self._mean(self._image)

    def _mean(self, total: np.ndarray | float) -> np.ndarray:
        if not self.count:
            raise ValueError("no finding was added")
        return np.asarray(total / self.count)


def plot_mean_heatmaps(names: Sequence[str], means: Sequence[MeanHeatmap]) -> bytes:
    """PNG of all classes on one scale: the mean heatmap over the mean image, and the maps' cells below it."""
    columns = min(_COLUMNS, len(names))
    blocks = -(-len(names) // columns)
    figure, axes = grid_figure(2 * blocks, columns, (2.3 * columns + 1.2, 4.9 * blocks))
    for panel in axes.flat:
        panel.axis("off")
    top = max([float(m.heat.max()) for m in means if m.count], default=1.0)
    image = None
    for i, (name, mean) in enumerate(zip(names, means, strict=True)):
        over, cells = axes[2 * (i // columns)][i % columns], axes[2 * (i // columns) + 1][i % columns]
        findings = "finding" if mean.count == 1 else "findings"
        over.set_title(f"{name}\n{mean.count} {findings}", fontsize=9)
        if not mean.count:
            over.text(0.5, 0.5, "not defined", ha="center", va="center", transform=over.transAxes)
            continue
        height, width = mean.image.shape
        fine = np.asarray(
            Image.fromarray(mean.heat.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        ).clip(0)
        over.imshow(mean.image, cmap="gray", vmin=0, vmax=255)
        over.imshow(fine, cmap=HEAT, vmin=0, vmax=top, alpha=(fine / top).clip(0, 1) * MAX_OPACITY)
        image = cells.imshow(mean.heat, cmap=HEAT, vmin=0, vmax=top, extent=(0, width, height, 0))
    if image is not None:
        bar = figure.colorbar(image, ax=axes, shrink=0.6)
        bar.set_label("mean of the maps, each divided by its own maximum")
    return figure_png(figure, dpi=110)
