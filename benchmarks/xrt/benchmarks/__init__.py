"""Measuring a bundle: speed, quality, and parity with the PyTorch model."""
