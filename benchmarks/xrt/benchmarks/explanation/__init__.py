"""Heatmaps at scale: of every finding, of the most certain and the most mistaken cases, and on average."""
