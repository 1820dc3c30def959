"""From CAMs to what a reader sees: overlays on the radiograph, and boxes around the hottest region."""

from xrt.runtime.heatmaps.boxes import box_of_map, otsu
from xrt.runtime.heatmaps.overlay import BOX_COLOUR, MAX_OPACITY, PALETTE, align_map, colour, overlay

__all__ = ["BOX_COLOUR", "MAX_OPACITY", "PALETTE", "align_map", "box_of_map", "colour", "otsu", "overlay"]
