"""`xrt export`."""
