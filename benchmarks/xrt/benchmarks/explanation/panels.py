"""Tiles of one scored image: its heatmaps by class, by opacity, by layer, and several findings at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from xrt.benchmarks.explanation.classes import MapClass, MapClasses
from xrt.benchmarks.explanation.composite import composite
from xrt.benchmarks.explanation.palette import CLASS_COLOURS, Colour
from xrt.benchmarks.explanation.statistics import map_statistics
from xrt.benchmarks.explanation.tiles import Tile
from xrt.benchmarks.scoring import ScoredImage
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.screening.boxes import Box, box_of_map
from xrt.runtime.screening.heatmap import MAX_OPACITY, align_map, overlay

OWN_SCALE = ("each map: 0", "its own maximum")


@dataclass(frozen=True)
class Panels:
    """What one bundle's maps are drawn by. Every map is scaled to its own maximum, as screening does it."""

    manifest: Manifest
    classes: MapClasses

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the CAM outputs, the default layer and method first."""
        return tuple(cam.output for cam in self.manifest.graph.cams)

    def describe(self, output: str) -> str:
        """A CAM output in words: its layer, its method unless it is Grad-CAM, and its cells."""
        cam = next(cam for cam in self.manifest.graph.cams if cam.output == output)
        method = "" if cam.method == "gradcam" else f" {cam.method}"
        return f"{cam.layer}{method}, {cam.height} × {cam.width} cells"

    def box(self, image: ScoredImage, cam: Float32[np.ndarray, "h w"]) -> Box | None:
        """The box of a map in stored-image pixels."""
        height, width = image.input.shape
        return box_of_map(cam, image.placement, (height, width), image.size)

    def draw(
        self, image: ScoredImage, cam: Float32[np.ndarray, "h w"], *, boxed: bool = False, opacity: float = MAX_OPACITY
    ) -> UInt8[np.ndarray, "preview_h preview_w 3"]:
        """The overlay of a map on the whole stored image."""
        height, width = image.input.shape
        box = self.box(image, cam) if boxed else None
        return overlay(image.preview, cam, image.placement, (height, width), image.size, box, opacity=opacity)

    def tile(self, image: ScoredImage, shown: MapClass, caption: Sequence[str], *, boxed: bool = False) -> Tile:
        """The default map of a class, or the bare radiograph with a remark where there is none to draw."""
        cam = image.cam(shown.logit, self.outputs[0])
        if cam is None:
            return Tile(image.preview, (*caption, f"not among the top {self.manifest.graph.top_k}"))
        if not cam.max() > 0:
            return Tile(image.preview, (*caption, "the map is empty"))
        return Tile(self.draw(image, cam, boxed=boxed), tuple(caption))

    def grid(self, image: ScoredImage, key: str, labelled: Bool[np.ndarray, " k"]) -> list[Tile]:
        """The radiograph, then the heatmap of every class with probability, decision and label."""
        predicted = self.classes.predicted(image.probability[None])[0]
        tiles = [Tile(image.preview, (key,))]
        for c, found, label in zip(self.classes.every, predicted, labelled, strict=True):
            caption = (c.name, f"p = {c.probability(image.probability):.3f}, {verdict(bool(found), bool(label))}")
            tiles.append(self.tile(image, c, caption))
        return tiles

    def opacities(self, image: ScoredImage, shown: MapClass, alphas: Sequence[float]) -> list[Tile]:
        """The same heatmap at several opacities, after the bare radiograph."""
        cam = image.cam(shown.logit, self.outputs[0])
        bare = [Tile(image.preview, ("radiograph",))]
        if cam is None:
            return bare
        return bare + [Tile(self.draw(image, cam, opacity=alpha), (f"α = {alpha:g}",)) for alpha in alphas]

    def layers(self, image: ScoredImage, shown: MapClass) -> list[Tile]:
        """The maps of every layer and method, with their figures, after the bare radiograph."""
        tiles = [Tile(image.preview, ("radiograph",))]
        for output in self.outputs:
            cam = image.cam(shown.logit, output)
            if cam is not None:
                s = map_statistics(cam)
                entropy = "not defined" if s.entropy is None else f"{s.entropy:.2f}"
                figures = f"mean {s.mean:.3g}, max {s.maximum:.3g}, zero {s.zero_share:.0%}, entropy {entropy}"
                tiles.append(Tile(self.draw(image, cam), (self.describe(output), figures)))
        return tiles

    def composite(self, image: ScoredImage) -> tuple[Tile, list[tuple[Colour, str]]]:
        """All predicted classes that have a map, at most six, in one overlay; with the key of their hues."""
        predicted = self.classes.predicted(image.probability[None])[0]
        shown = []
        for c in sorted(self.classes.every, key=lambda c: -float(c.probability(image.probability))):
            cam = image.cam(c.logit, self.outputs[0])
            if predicted[self.classes.every.index(c)] and cam is not None and cam.max() > 0:
                shown.append((c, cam))
        shown = shown[: len(CLASS_COLOURS)]
        size = image.input.shape[0], image.input.shape[1]
        heats = [
            align_map(cam, image.placement, size, image.size, image.preview.shape) / float(cam.max())
            for _, cam in shown
        ]
        key = [
            (CLASS_COLOURS[i], f"{i + 1}  {c.name}, p = {c.probability(image.probability):.3f}")
            for i, (c, _) in enumerate(shown)
        ]
        return Tile(composite(image.preview, heats), ("predicted classes",) if shown else ("nothing predicted",)), key


def verdict(predicted: bool, labelled: bool) -> str:
    """Decision and label in words."""
    return f"{'predicted' if predicted else 'not predicted'}, {'labelled' if labelled else 'not labelled'}"
