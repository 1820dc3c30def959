"""The names that a bundle's graph gives to its inputs, outputs and normalisation."""

from __future__ import annotations

IMAGE, LOGITS, CAM_CLASSES = "image", "logits", "cam_classes"
NORMALISE = "normalise/"
"""The prefix of all names in the normalisation."""
