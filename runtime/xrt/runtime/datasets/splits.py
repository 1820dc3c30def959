"""Splits that never put one patient on two sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from xrt.runtime._io import sha256_of
from xrt.runtime.datasets.case import Case
from xrt.runtime.errors import DataError

PARTS = ("train", "val", "test")
Indices = Mapping[str, Sequence[int]]


def split_by_patient(cases: Sequence[Case], proportions: Sequence[float], seed: int) -> Indices:
    """Indices of train, val and test: whole patients, dealt out in an order drawn from `seed`.

    Raises DataError for proportions that do not add up to 1 and for a part that would stay empty.
    """
    _require_proportions(proportions)
    groups = _deal(cases, range(len(cases)), proportions, seed)
    parts: dict[str, Sequence[int]] = dict(zip(PARTS, groups, strict=True))
    patients = len({case.patient for case in cases})
    _require_filled(parts, proportions, f"{patients} patients cannot fill shares of {tuple(proportions)}")
    return parts


def official_split(cases: Sequence[Case], proportions: Sequence[float], seed: int) -> Indices:
    """Indices of train, val and test as the data set's publishers list them.

    Where they give `train_val`, or no validation part at all, val is split off `train_val` or `train` by patient in
    the ratio of the first two proportions.
    Raises DataError if a case is in no list or a part would stay empty.
    """
    _require_proportions(proportions)
    no_part = [case.key for case in cases if case.split is None]
    if no_part:
        raise DataError(
            f"{len(no_part)} of {len(cases)} images are in no official split (for example {no_part[0]}). Add the"
            " set's own lists, or split by patient (data.official=false)."
        )
    indices: dict[str | None, list[int]] = {}
    for index, case in enumerate(cases):
        indices.setdefault(case.split, []).append(index)
    parts = {name: indices.get(name, []) for name in PARTS}
    train_val = indices.get("train_val", [])
    if not train_val and not parts["val"]:
        train_val, parts["train"] = parts["train"], []
    if train_val:
        whole = proportions[0] + proportions[1]
        ratio = proportions[0] / whole, proportions[1] / whole
        train, val = _deal(cases, train_val, ratio, seed)
        parts["train"], parts["val"] = sorted(parts["train"] + train), sorted(parts["val"] + val)
    _require_filled(parts, proportions, "the official lists (data.official) name too few images for it")
    return parts


def require_disjoint(patients: Mapping[str, set[str]]) -> None:
    """Raise DataError, naming a patient and two parts, if any patient is in more than one part."""
    for first, second in combinations(patients, 2):
        if shared := sorted(patients[first] & patients[second]):
            raise DataError(
                f"patient leak: {len(shared)} patients are in both {first} and {second} (for example {shared[0]}),"
                " so test figures would be too good. Correct the split lists, or split by patient"
                " (data.official=false)."
            )


def _deal(cases: Sequence[Case], indices: Sequence[int], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Deal patients to groups, each to the one that is furthest below its share of the images dealt so far.

    Patients come in the order of a hash of seed and name, which is the same on every machine and in every
    numpy.
    """
    of_patient: dict[str, list[int]] = {}
    for index in indices:
        of_patient.setdefault(cases[index].patient, []).append(index)
    order = sorted(of_patient, key=lambda name: sha256_of(f"{seed}/{name}"))
    groups: list[list[int]] = [[] for _ in shares]
    dealt = 0
    for position, patient in enumerate(order):
        dealt += len(of_patient[patient])
        # The last patients go to groups that would otherwise stay empty.
        empty = [i for i, share in enumerate(shares) if share > 0 and not groups[i]]
        candidates = empty if len(order) - position <= len(empty) else range(len(groups))
        neediest = max(candidates, key=lambda i: shares[i] * dealt - len(groups[i]))
        groups[neediest].extend(of_patient[patient])
    return [sorted(group) for group in groups]


def _require_proportions(proportions: Sequence[float]) -> None:
    if len(proportions) != 3 or min(proportions) < 0 or not abs(sum(proportions) - 1) <= 1e-6 or not proportions[0]:
        raise DataError(
            f"split proportions are {tuple(proportions)}; give fractions of train, val and test that add up to 1"
        )


def _require_filled(parts: Indices, proportions: Sequence[float], reason: str) -> None:
    for (name, indices), share in zip(parts.items(), proportions, strict=True):
        if share > 0 and not indices:
            raise DataError(
                f"the {name} part would be empty: {reason}. Use more images or other shares (data.proportions)."
            )
