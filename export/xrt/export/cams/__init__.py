"""Heatmaps of the CAM family as nodes of the graph."""
