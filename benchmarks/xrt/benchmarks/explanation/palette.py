"""Class colours that any colour vision can distinguish: those of Okabe and Ito (2008) that are visible on grey."""

from __future__ import annotations

Colour = tuple[int, int, int]
CLASS_COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermilion
)
