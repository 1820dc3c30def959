"""Tiles of one scored image: its heatmaps by class, by opacity, by layer, and several findings at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from xrt.benchmarks.explanation.classes import MapClass, MapClasses
from xrt.benchmarks.explanation.composite import composite
from xrt.benchmarks.explanation.map_statistics import map_statistics
from xrt.benchmarks.explanation.palette import CLASS_COLOURS, Colour
from xrt.benchmarks.explanation.tiles import Tile
from xrt.runtime.bundle.manifest import Manifest
from xrt.runtime.geometry import Box
from xrt.runtime.heatmaps.boxes import box_of_map
from xrt.runtime.heatmaps.overlay import MAX_OPACITY, align_map, overlay
from xrt.runtime.scoring import ScoredImage

OWN_SCALE = ("each map: 0", "its own maximum")


@dataclass(frozen=True)
class Panels:
    """Draws the maps of one bundle. Every map is scaled to its own maximum, as screening does it."""

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

    def box(self, image: ScoredImage[int], cam: Float32[np.ndarray, "h w"]) -> Box | None:
        """The box of a map in stored-image pixels."""
        loaded = image.loaded
        return box_of_map(cam, loaded.placement, loaded.input_size, loaded.size)

    def draw(
        self,
        image: ScoredImage[int],
        cam: Float32[np.ndarray, "h w"],
        *,
        boxed: bool = False,
        opacity: float = MAX_OPACITY,
    ) -> UInt8[np.ndarray, "preview_h preview_w 3"]:
        """The overlay of a map on the whole stored image."""
        loaded = image.loaded
        box = self.box(image, cam) if boxed else None
        return overlay(loaded.preview, cam, loaded.placement, loaded.input_size, loaded.size, box, opacity=opacity)

    def tile(self, image: ScoredImage[int], c: MapClass, caption: Sequence[str], *, boxed: bool = False) -> Tile:
        """The default map of a class, or the bare radiograph with a remark where there is none to draw."""
        cam = image.cam(c.logit, self.outputs[0])
        if cam is None:
            return Tile(image.loaded.preview, (*caption, f"not among the top {self.manifest.graph.top_k}"))
        if not cam.max() > 0:
            return Tile(image.loaded.preview, (*caption, "the map is empty"))
        return Tile(self.draw(image, cam, boxed=boxed), tuple(caption))

    def grid(self, image: ScoredImage[int], key: str, labelled: Bool[np.ndarray, " k"]) -> list[Tile]:
        """The radiograph, then the heatmap of every class with probability, decision and label."""
        predicted = self.classes.predicted(image.probability[None])[0]
        tiles = [Tile(image.loaded.preview, (key,))]
        for c, decision, label in zip(self.classes.every, predicted, labelled, strict=True):
            caption = (c.name, f"p = {c.probability(image.probability):.3f}, {verdict(bool(decision), bool(label))}")
            tiles.append(self.tile(image, c, caption))
        return tiles

    def opacities(self, image: ScoredImage[int], c: MapClass, alphas: Sequence[float]) -> list[Tile]:
        """The same heatmap at several opacities, after the bare radiograph."""
        cam = image.cam(c.logit, self.outputs[0])
        bare = [Tile(image.loaded.preview, ("radiograph",))]
        if cam is None:
            return bare
        return bare + [Tile(self.draw(image, cam, opacity=alpha), (f"α = {alpha:g}",)) for alpha in alphas]

    def layers(self, image: ScoredImage[int], c: MapClass) -> list[Tile]:
        """The maps of every layer and method, with their figures, after the bare radiograph."""
        tiles = [Tile(image.loaded.preview, ("radiograph",))]
        for output in self.outputs:
            cam = image.cam(c.logit, output)
            if cam is not None:
                s = map_statistics(cam)
                entropy = "not defined" if s.entropy is None else f"{s.entropy:.2f}"
                figures = f"mean {s.mean:.3g}, max {s.maximum:.3g}, zero {s.zero_share:.0%}, entropy {entropy}"
                tiles.append(Tile(self.draw(image, cam), (self.describe(output), figures)))
        return tiles

    def composite(self, image: ScoredImage[int]) -> tuple[Tile, list[tuple[Colour, str]]]:
        """All predicted classes that have a map, at most six, in one overlay; with the key of their hues."""
        predicted = self.classes.predicted(image.probability[None])[0]
        findings = []
        for c in sorted(self.classes.every, key=lambda c: -float(c.probability(image.probability))):
            cam = image.cam(c.logit, self.outputs[0])
            if predicted[self.classes.every.index(c)] and cam is not None and cam.max() > 0:
                findings.append((c, cam))
        findings = findings[: len(CLASS_COLOURS)]
        loaded = image.loaded
        heats = [
            align_map(cam, loaded.placement, loaded.input_size, loaded.size, loaded.preview.shape) / float(cam.max())
            for _, cam in findings
        ]
        key = [
            (CLASS_COLOURS[i], f"{i + 1}  {c.name}, p = {c.probability(image.probability):.3f}")
            for i, (c, _) in enumerate(findings)
        ]
        return Tile(
            composite(loaded.preview, heats), ("predicted classes",) if findings else ("nothing predicted",)
        ), key


def verdict(predicted: bool, labelled: bool) -> str:
    """Decision and label in words."""
    return f"{'predicted' if predicted else 'not predicted'}, {'labelled' if labelled else 'not labelled'}"
