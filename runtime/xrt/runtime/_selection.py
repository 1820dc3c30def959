"""`auto`, or a name: choosing among things that say why they cannot be used here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar, runtime_checkable

from xrt.runtime.errors import BackendError, UsageError


@runtime_checkable
class Selectable(Protocol):
    """Something with a name that may be unavailable on this machine."""

    @property
    def name(self) -> str: ...

    def unavailable_reason(self) -> str | None: ...


Choice = TypeVar("Choice", bound=Selectable)


def choose(name: str, candidates: Iterable[Choice], purpose: str) -> Choice:
    """The candidate called `name`; for `auto`, the first that is available.

    `purpose` says what it is chosen for, as in "run". There is no silent fall-back: what was named and is not available
    raises BackendError with the reason, an unknown name raises UsageError.
    """
    by_name = {candidate.name: candidate for candidate in candidates}
    if name != "auto":
        if name not in by_name:
            raise UsageError(f"there is no back end {name!r} that can {purpose}: choose auto, {', '.join(by_name)}")
        if (reason := by_name[name].unavailable_reason()) is not None:
            raise BackendError(f"back end {name} cannot {purpose} here: {reason}")
        return by_name[name]
    reasons = {}
    for candidate in by_name.values():
        if (reason := candidate.unavailable_reason()) is None:
            return candidate
        reasons[candidate.name] = reason
    raise BackendError(f"no back end can {purpose} here: {'; '.join(f'{n}: {why}' for n, why in reasons.items())}")
