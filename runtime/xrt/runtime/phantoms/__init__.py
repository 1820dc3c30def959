"""Synthetic frontal chest radiographs with labels and boxes, for tests, demonstrations and known answers."""

from xrt.runtime.phantoms.inputs import phantom_images
from xrt.runtime.phantoms.layouts import Layout, write
from xrt.runtime.phantoms.records import DEFAULT_CONTRAST, DESCRIPTION, LESIONS, Lesion, Phantom
from xrt.runtime.phantoms.render import generate, phantom
from xrt.runtime.phantoms.stress import stress_images

__all__ = [
    "DEFAULT_CONTRAST",
    "DESCRIPTION",
    "LESIONS",
    "Layout",
    "Lesion",
    "Phantom",
    "generate",
    "phantom",
    "phantom_images",
    "stress_images",
    "write",
]
