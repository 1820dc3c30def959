"""The equation of an Einstein sum."""

from __future__ import annotations


def einsum_letters(equation: str) -> tuple[list[str], str]:
    """The letters of each operand and of the result, which by default are those that occur once, in order."""
    left, arrow, result = equation.replace(" ", "").partition("->")
    if not arrow:
        result = "".join(sorted(letter for letter in set(left) - {","} if left.count(letter) == 1))
    return left.split(","), result
