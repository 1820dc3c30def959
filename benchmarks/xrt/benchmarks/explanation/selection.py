"""Which cases to look at: the most certain of every class, the worst errors, and a few examples shared by all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float


class Example(NamedTuple):
    """A case to be drawn in every way, and the column of the class whose map is drawn."""

    case: int
    column: int


def top_cases(probability: Float[np.ndarray, " n"], count: int) -> list[int]:
    """The `count` cases of highest probability, highest first; of equals, the earlier in the table."""
    return [int(i) for i in np.argsort(-probability, kind="stable")[:count]]


def hard_cases(
    probability: Float[np.ndarray, " n"],
    predicted: Bool[np.ndarray, " n"],
    labelled: Bool[np.ndarray, " n"],
    count: int,
) -> tuple[list[int], list[int]]:
    """Confident and wrong: false positives by falling probability, and false negatives by rising probability."""
    false_positives = np.flatnonzero(predicted & ~labelled)
    false_negatives = np.flatnonzero(~predicted & labelled)
    return (
        [int(false_positives[i]) for i in top_cases(probability[false_positives], count)],
        [int(false_negatives[i]) for i in top_cases(-probability[false_negatives], count)],
    )


def choose_examples(
    probability: Float[np.ndarray, "n k"], labelled: Bool[np.ndarray, "n k"], count: int
) -> list[Example]:
    """Examples, each case once: the classes in turn give their most certain case that is labelled so.

    A class without labelled cases gives its most certain ones.
    """
    queues = []
    for c in range(probability.shape[1]):
        candidates = np.flatnonzero(labelled[:, c]) if labelled[:, c].any() else np.arange(len(probability))
        queues.append(iter([int(candidates[i]) for i in top_cases(probability[candidates, c], len(candidates))]))
    column_of: dict[int, int] = {}
    turns = list(enumerate(queues))
    while turns and len(column_of) < count:
        remaining = []
        for c, queue in turns:
            case = next((case for case in queue if case not in column_of), None)
            if case is not None and len(column_of) < count:
                column_of[case] = c
                remaining.append((c, queue))
        turns = remaining
    return [Example(case, column) for case, column in column_of.items()]
