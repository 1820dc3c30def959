"""Heatmaps at scale: of every finding, of the most certain cases and the worst errors, and on average."""
