"""Which groups of axes of a reshape hold the same elements."""

from __future__ import annotations

from xrt.export.ir.shapes import Batch, Dim, Shape


def axis_groups(before: Shape, after: Shape) -> list[tuple[list[int], list[int]]]:
    """Split two shapes of equal size into the shortest groups of consecutive axes that hold equally many elements.

    Returns pairs (axes of `before`, axes of `after`).
    """
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start = i, j
        old, new = before[i : i + 1], after[j : j + 1]
        if old == new:
            i, j = i + 1, j + 1
        elif old == (1,):
            i += 1
        elif new == (1,):
            j += 1
        else:
            i, j = _group_ends(before, after, i, j)
        groups.append((list(range(start[0], i)), list(range(start[1], j))))
    return groups


def _group_ends(before: Shape, after: Shape, i: int, j: int) -> tuple[int, int]:
    """The ends of the groups that start at axes i and j: the smaller one grows until both are of equal size."""
    left, right = _count(before[i : i + 1]), _count(after[j : j + 1])
    i, j = i + 1, j + 1
    while left != right:
        if (left < right and i < len(before)) or j == len(after):
            left = _times(left, before[i])
            i += 1
        else:
            right = _times(right, after[j])
            j += 1
    return i, j


def _count(dims: Shape) -> tuple[int, int]:
    """How many elements: the power of the batch, and the factor before it."""
    count = (0, 1)
    for dim in dims:
        count = _times(count, dim)
    return count


def _times(count: tuple[int, int], dim: Dim) -> tuple[int, int]:
    power, factor = count
    return (power + 1, factor * dim.multiple) if isinstance(dim, Batch) else (power, factor * dim)
