"""The maps of the CAM family in the graph."""
