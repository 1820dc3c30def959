"""What the caller of `open_dataset` fixes, checked before anything is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from xrt.runtime.datasets.label_groups import require_groups
from xrt.runtime.errors import DataError, UsageError


@dataclass(frozen=True)
class ReadOptions:
    """How a data set is to be read; the fields are the arguments of `open_dataset`.

    Raises UsageError for classes that repeat, groups that overlap or are not those of `classes`, a fraction outside
    0..1, and a pattern that is no regular expression or has no group.
    """

    classes: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = ()
    allow_missing: float = 0.05
    groups: Mapping[str, Sequence[str]] | None = None
    patient_pattern: str | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        names = self.classes
        if names is not None and (not names or len(set(names)) < len(names)):
            raise UsageError(f"the classes are {', '.join(names) or 'none'}; name each once (data.classes)")
        if not 0 <= self.allow_missing <= 1:
            raise UsageError(
                f"the fraction of images that may be missing is {self.allow_missing}; give a number from 0 to 1"
                " (data.allow_missing)"
            )
        if self.groups is not None:
            require_groups(self.groups)
            if names is not None and set(names) != set(self.groups):
                raise UsageError(
                    f"the classes are {', '.join(names)}, but the groups are {', '.join(self.groups)}; leave the"
                    " classes out, or give the groups' names in another order (data.classes, data.groups)"
                )
        _ = self._pattern

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        if self.patient_pattern is None:
            return None
        try:
            pattern = re.compile(self.patient_pattern)
        except re.error as error:
            raise UsageError(
                f"the pattern of patients {self.patient_pattern!r} is no regular expression: {error}"
                " (data.patient_pattern)"
            ) from None
        if not pattern.groups:
            raise UsageError(
                f"the pattern of patients {self.patient_pattern!r} has no group; put the patient's part in"
                " parentheses, as in '^([0-9]+)_' (data.patient_pattern)"
            )
        return pattern

    def patient(self, key: str, otherwise: str) -> str:
        """The patient whom the pattern finds in `key`; `otherwise` without a pattern. Raises DataError if it fails."""
        if self._pattern is None:
            return otherwise
        match = self._pattern.search(key)
        if match is None or not match[1]:
            raise DataError(
                f"{key} does not match the pattern of patients {self.patient_pattern!r}; extend the pattern"
                " (data.patient_pattern), or rename the file"
            )
        return match[1]
